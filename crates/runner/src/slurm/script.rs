//! The batch script of a job array.

use std::path::Path;

use crate::slurm::{Part, Submission};

/// What a task requests from the cluster.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--gres`, for example `gpu:1`.
    pub gres: Option<String>,
    /// `--time`, as Slurm writes it; if `None`, the partition's default applies.
    pub time: Option<String>,
    /// `--mem` of a task, in MiB.
    pub memory: Option<u64>,
    /// Seconds before the time limit at which a task is warned.
    pub warning: u32,
    /// Further options of sbatch, passed as they are.
    pub further: Vec<String>,
}

/// The script of the tasks `first..first + count` of a part.
pub(super) fn text(
    submission: &Submission,
    part: Part,
    first: usize,
    count: usize,
    folder: &Path,
    program: &Path,
    resources: &Resources,
) -> String {
    let is_array = part != Part::Table;
    let threads = if is_array { submission.threads } else { 1 };
    let log = folder.join(if is_array { "%x-%A_%a.log" } else { "%x-%j.log" });
    let mut options = vec![
        format!("--job-name=san-{}-{}-{}", submission.experiment, submission.profile, part.name()),
        format!("--output={}", log.display()),
        "--open-mode=append".into(),
        "--requeue".into(),
        format!("--signal=B:USR1@{}", resources.warning),
        "--ntasks=1".into(),
        format!("--cpus-per-task={threads}"),
    ];
    if is_array {
        options.push(format!("--array=0-{}", count - 1));
        options.extend(resources.gres.iter().map(|gres| format!("--gres={gres}")));
    }
    options.extend(resources.time.iter().map(|time| format!("--time={time}")));
    options.extend(resources.partition.iter().map(|name| format!("--partition={name}")));
    options.extend(resources.memory.iter().map(|memory| format!("--mem={memory}M")));
    options.extend(resources.further.iter().cloned());
    let options: String = options.iter().map(|option| format!("#SBATCH {option}\n")).collect();
    let task = if is_array { format!("$((SLURM_ARRAY_TASK_ID + {first}))") } else { "0".into() };
    format!(
        "#!/bin/bash
{options}
# One thread count for every library.
export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} RAYON_NUM_THREADS={threads}

# Slurm's warning before the time limit reaches only this shell, which forwards it. The program then saves its state and
# exits with 75, and the task is requeued to resume from there. A cancelled task is not.
warned=0
{program} task {folder} --part {part} --index {task} &
task=$!
trap 'warned=1; kill -USR1 \"$task\"' USR1
trap 'kill -TERM \"$task\"' TERM
while :; do
    wait \"$task\"
    code=$?
    kill -0 \"$task\" 2>/dev/null || break
done
if [ \"$code\" -gt 128 ]; then # a signal interrupted `wait`, not the task
    wait \"$task\"
    code=$?
fi
if [ \"$code\" -eq 75 ] && [ \"$warned\" -eq 1 ]; then
    scontrol requeue \"$SLURM_JOB_ID\"
fi
exit \"$code\"
",
        program = quoted(program),
        folder = quoted(folder),
        part = part.name(),
    )
}

/// A path, quoted for the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}
