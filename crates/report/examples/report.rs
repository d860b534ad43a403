//! Tables and figures of a folder of runs without the program `san`, which needs libtorch to build:
//! `cargo run -p report --example report -- results/runs/vtab vtab embedded /tmp/out`.

use std::path::PathBuf;

use report::Request;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [runs, experiment, profile, out] =
        <[String; 4]>::try_from(std::env::args().skip(1).collect::<Vec<_>>())
            .map_err(|_| "expected: <runs> <experiment> <profile> <out>")?;
    let request = Request {
        runs: PathBuf::from(runs),
        experiment,
        profile,
        backbone: None,
        all_runs: false,
        filter: None,
    };
    for comparison in report::compare(&request)? {
        let out = PathBuf::from(&out);
        let written = [report::write_tables(&comparison, &out)?, report::draw_figures(&comparison, &out)?];
        for path in written.iter().flatten() {
            println!("{}", path.display());
        }
    }
    Ok(())
}
