//! `san plan`, `san run` and `san status`: the same arguments, ever more of the way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use runner::config::experiment::Experiment;
use runner::config::{MethodChoice, Selection};
use runner::cost::calibration::CalibrationFile;
use runner::cost::device::Device;
use runner::cost::estimate::CostModel;
use runner::error::{RUN_FAILED, RunError, WRITE};
use runner::io::files::{create_folder, write_atomically};
use runner::messages::{counted, message};
use runner::plan::device_memory::DeviceMemory;
use runner::plan::time::Workers;
use runner::plan::{Missing, Plan, Survey, run_plan};
use runner::resources::Resources;
use runner::store::Store;
use runner::store::failure;
use runner::store::lock;
use runner::tasks::Run;
use runner::train::signals::{RUNNER_DEADLINE, StopFlag};
use runner::workers::measuring::Report;
use runner::workers::pool::Pool;
use runner::workers::{gpus, memory};

use super::output;
use crate::commands::slurm;

/// Examples of `san run`.
pub(crate) const EXAMPLES: &str = "Examples:\n  san run vtab\n  san run vtab --methods linear,san --seeds 0\n  \
    SAN_DATA=data SAN_WEIGHTS=weights san run vtab --profile small --sets caltech101\n  \
    san run classification --set photos/ --model weights/vit --method san --method 'lora(rank=8)' --seeds 0,1,2";

/// Options of `san run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    common: Arguments,
    /// Measure first how long steps take on this device, as `san plan --calibrate`.
    #[arg(long, conflicts_with = "on")]
    calibrate: bool,
}

/// Options of `san plan`, `san run` and `san status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Name of an experiment in experiments/, or a file.
    experiment: String,
    /// The profile to use: `embedded` if left out, or the only one.
    #[arg(long)]
    profile: Option<String>,
    /// Only these of the profile's methods, separated by commas.
    #[arg(long, value_delimiter = ',', conflicts_with = "method")]
    methods: Option<Vec<String>>,
    /// Use this method instead of the profile's, with options if need be; may be repeated, also with other options of
    /// the same method.
    #[arg(long, value_name = "NAME(OPTION=VALUE,...)")]
    method: Vec<MethodChoice>,
    /// Use this learning rate instead of the methods'; the best of several is chosen on val.
    #[arg(long, value_delimiter = ',', value_name = "RATE")]
    learning_rate: Option<Vec<f64>>,
    /// Only these sets.
    #[arg(long, value_delimiter = ',')]
    sets: Option<Vec<String>>,
    /// Your own data instead of the profile's sets: a folder of images, a file of text rows, or of conversations about
    /// images (`san inspect` shows what would be read).
    #[arg(long = "set", value_name = "PATH", conflicts_with = "sets")]
    own_set: Option<PathBuf>,
    /// Use these models instead: names, or paths of folders as timm and transformers save them; the suffix `@random`
    /// selects random weights.
    #[arg(long = "model", visible_alias = "backbone", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Use these seeds instead, for example 0,1,5.
    #[arg(long, value_delimiter = ',', value_name = "SEED")]
    seeds: Option<Vec<u64>>,
    /// Use this number of epochs instead.
    #[arg(long)]
    epochs: Option<u64>,
    /// Write the experiment that says the same as this command line to this file.
    #[arg(long, value_name = "FILE")]
    save_experiment: Option<PathBuf>,
    /// Worker processes; by default one per processor, or one per GPU.
    #[arg(long)]
    workers: Option<u32>,
    /// Train up to N runs together that differ only in seed and learning rate; 1 trains each alone. By default as many
    /// as are faster together on this device.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    group: Option<u64>,
    /// Threads of each worker, for computing and for reading data; by default 1, or on GPUs an equal share of the
    /// processors.
    #[arg(long)]
    pub(super) threads: Option<u32>,
    /// Use only these GPUs: numbers or UUIDs as nvidia-smi prints them, separated by commas. The workers are distributed
    /// over them.
    #[arg(long, value_delimiter = ',', value_name = "GPU")]
    pub(super) gpus: Option<Vec<String>>,
    /// Memory limit for all workers together, for example 6GB: fewer are started if it is too small, and workers
    /// beyond it are stopped.
    #[arg(long, value_name = "SIZE", value_parser = runner::workers::memory::parse)]
    pub(super) memory: Option<u64>,
    /// Replace a worker that has made no progress for this long.
    #[arg(long, default_value_t = 1800.0, value_name = "SECONDS")]
    hung_after: f64,
    /// Save the state of a run in training at this interval.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    pub(super) checkpoint_every: f64,
    /// Keep what vision towers compute from pictures in files of this folder, for this and every later run. Without it,
    /// features that do not fit into memory are computed again in every epoch of every run.
    #[arg(long, value_name = "FOLDER")]
    pub(super) cache_features: Option<PathBuf>,
    /// auto, cpu or cuda.
    #[arg(long, default_value = "auto")]
    pub(super) device: String,
    /// Folder of the results.
    #[arg(long, default_value = "results")]
    pub(super) results: PathBuf,
    #[command(flatten)]
    pub(super) slurm: slurm::Cluster,
}

impl Arguments {
    /// As much of the plan as its data and weights allow. `check_images` decodes every image of the sets, so that a broken
    /// one is found before training.
    pub(super) fn survey(&self, check_images: bool) -> Result<Resolved> {
        let (experiment, path) = read(&self.experiment)?;
        let selection = Selection {
            only_methods: self.methods.clone(),
            methods: self.method.clone(),
            learning_rate: self.learning_rate.clone(),
            sets: self.sets.clone(),
            own_set: self.own_set.clone(),
            models: self.models.clone(),
            seeds: self.seeds.clone(),
            epochs: self.epochs,
        };
        if let Some(file) = &self.save_experiment {
            let wrong = |reason| RunError::Experiment { path: path.clone(), reason };
            save(&experiment.selected(self.profile.as_deref(), &selection).map_err(wrong)?, file)?;
        }
        let mut resources = Resources::new(tch::Device::Cpu).keeping_checksums(&self.results, !check_images);
        let survey = Plan::survey(
            &experiment,
            self.profile.as_deref(),
            &selection,
            &mut resources,
            &path,
            check_images,
        )?;
        let store = Store::new(&self.results, &survey.plan.experiment, &survey.plan.profile);
        let Survey { plan, missing } = survey;
        Ok(Resolved { plan, missing, store, resources })
    }

    /// The same if nothing is missing; otherwise the plan is printed with what is.
    fn resolve(&self, check_images: bool) -> Result<Resolved> {
        let mut resolved = self.survey(check_images)?;
        if !resolved.missing.is_empty() {
            let workers = self.workers()?;
            self.describe(&mut resolved, &workers)?;
        }
        resolved.complete()
    }

    /// The most runs of a group, if the user says so.
    pub(super) fn group_size(&self) -> Option<usize> {
        self.group.and_then(|size| usize::try_from(size).ok())
    }

    /// Prints the plan for some workers, and what else there is to say.
    fn describe(&self, resolved: &mut Resolved, workers: &Workers) -> Result<()> {
        let Resolved { plan, store, resources, .. } = resolved;
        let time = plan.time(store, self.group_size(), workers, resources)?;
        let described = plan.describe(store, &time, workers, self.group_size())?;
        let more = self.more_in_words(resolved, !self.slurm.is_selected())?;
        output::line(format_args!("{described}{more}"))
    }

    /// What is missing, or what the plan keeps on disk and, on this machine, the GPUs that it will use.
    pub(super) fn more_in_words(&self, resolved: &mut Resolved, here: bool) -> Result<String> {
        if !resolved.missing.is_empty() {
            return Ok(resolved.missing.in_words());
        }
        let Resolved { plan, resources, .. } = resolved;
        let kept = self.cache_features.as_deref().map(|folder| plan.cached_features(folder, resources));
        let gpus = if here { self.pool()?.gpus_in_words() } else { None };
        let gpus = gpus.map_or_else(String::new, |gpus| format!("{gpus}\n"));
        Ok(kept.transpose()?.unwrap_or_default() + &gpus)
    }

    /// The workers on this machine, or one of Slurm's tasks, with what was measured on their device.
    pub(super) fn workers(&self) -> Result<Workers> {
        if self.slurm.is_selected() {
            let on_gpu = self.slurm.is_on_gpu(&self.device);
            return self.cluster_workers(self.threads.unwrap_or(1).max(1), on_gpu);
        }
        let pool = self.pool()?;
        self.workers_on(pool.workers, pool.device(), device_memory(&pool))
    }

    /// One of Slurm's tasks: on the GPU that `--gres` names, or on a processor like that of this machine.
    pub(super) fn cluster_workers(&self, threads: u32, on_gpu: bool) -> Result<Workers> {
        let device = match self.slurm.gpu_model().filter(|_| on_gpu) {
            Some(model) => Device::gpu(model, threads).unwrap_or_else(|| Device::other_gpu(model, threads)),
            None if on_gpu => Device::other_gpu("the partition's GPUs", threads),
            None => Pool { gpus: Vec::new(), threads, ..self.pool()? }.device(),
        };
        self.workers_on(1, device, self.slurm.device_memory(&self.device, self.memory))
    }

    pub(super) fn workers_on(&self, count: u32, device: Device, memory: DeviceMemory) -> Result<Workers> {
        let calibration = CalibrationFile::open(&self.results)?.of(&device);
        Ok(Workers { count, costs: CostModel { device, calibration }, memory })
    }

    /// Measures each kind of group that the plan has, and keeps the times in the results folder.
    pub(super) fn calibrate(&self, plan: &Plan) -> Result<()> {
        let pool = self.pool()?;
        let groups = plan.kinds(self.group_size(), &device_memory(&pool))?;
        let count = groups.len();
        message(format_args!("san: measuring {} on generated data", counted(count, "kind of run")));
        let (mut measured, mut number) = (Vec::new(), 0);
        pool.measure(&groups, &mut |runs, report| {
            number += 1;
            let label = format!("{} on {}", runs[0].method, runs[0].backbone_label());
            match report {
                Report::Measured(one) => {
                    let (step, evaluation) = (one.step.seconds * 1e3, one.evaluation.seconds);
                    message(format_args!(
                        "san: {number} of {count}: {label}, {}: {step:.1} ms a step, {evaluation:.2} s an evaluation",
                        counted(runs.len(), "run")
                    ));
                    measured.push(*one);
                }
                Report::Failed(reason) => {
                    message(format_args!("san: {number} of {count}: {label} is not measured: {reason}"));
                }
            }
        })?;
        create_folder(&self.results)?;
        CalibrationFile::open(&self.results)?.add(&pool.device(), measured)
    }

    fn pool(&self) -> Result<Pool> {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        let threads = self.threads.map(|threads| threads.max(1));
        if let Some(threads) = threads.filter(|&threads| threads > processors) {
            let reason = format!("--threads {threads}: this machine has {processors} processors");
            return Err(RunError::CommandLine { reason }.into());
        }
        let gpus = gpus::chosen(&self.device, self.gpus.as_deref())?;
        let usual = if gpus.is_empty() { processors / threads.unwrap_or(1) } else { gpus.len() as u32 };
        let workers = self.workers.unwrap_or(usual).max(1);
        let share = if gpus.is_empty() { 1 } else { (processors / workers).max(1) };
        Ok(Pool {
            workers,
            threads: threads.unwrap_or(share),
            memory: self.memory,
            checkpoint_every: seconds("--checkpoint-every", self.checkpoint_every)?,
            hung_after: seconds("--hung-after", self.hung_after)?,
            results: self.results.clone(),
            cache_features: self.cache_features.as_ref().map(std::path::absolute).transpose()?,
            gpus,
        })
    }
}

/// A plan, and what it was resolved with.
pub(super) struct Resolved {
    pub(super) plan: Plan,
    pub(super) missing: Missing,
    pub(super) store: Store,
    pub(super) resources: Resources,
}

impl Resolved {
    /// # Errors
    /// With the names of everything that is missing.
    pub(super) fn complete(self) -> Result<Self> {
        let Self { plan, missing, store, resources } = self;
        let plan = Survey { plan, missing }.complete()?;
        Ok(Self { plan, missing: Missing::default(), store, resources })
    }
}

/// An experiment of experiments/, or a file, and its path.
fn read(experiment: &str) -> Result<(Experiment, PathBuf)> {
    let path = experiment_file(experiment);
    Ok((Experiment::read(&path)?, path))
}

/// The file of an experiment of experiments/, or the file itself.
pub(super) fn experiment_file(experiment: &str) -> PathBuf {
    match Path::new(experiment) {
        file if file.extension().is_some() => file.to_owned(),
        name => Path::new("experiments").join(name).with_extension("yaml"),
    }
}

/// Writes an experiment; another file of that name is kept.
fn save(experiment: &Experiment, file: &Path) -> Result<()> {
    let text = serde_yaml::to_string(experiment)?;
    if file.exists() && std::fs::read_to_string(file).ok().as_ref() != Some(&text) {
        let reason = format!("--save-experiment: {} exists; it is not replaced", file.display());
        return Err(RunError::CommandLine { reason }.into());
    }
    Ok(write_atomically(file, text.as_bytes())?)
}

/// The plan of a whole profile.
pub(super) fn resolved(experiment: &str, profile: &str, resources: &mut Resources) -> Result<Plan> {
    let (experiment, path) = read(experiment)?;
    Plan::resolve(&experiment, Some(profile), &Selection::default(), resources, &path, true)
}

fn seconds(option: &str, number: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(number).map_err(|error| anyhow::anyhow!("{option}: {error}"))
}

/// The memory that one worker may use: of the smallest GPU, or all that the workers of the processors have together,
/// since fewer are started if it is not enough for all.
fn device_memory(pool: &Pool) -> DeviceMemory {
    if !pool.is_on_gpu() {
        return DeviceMemory::of_processors(pool.memory, memory::installed());
    }
    DeviceMemory::of_gpu(pool.gpus.iter().map(|gpu| gpu.memory).min().flatten(), "a GPU has")
}

pub(crate) fn status(arguments: &Arguments) -> Result<()> {
    let Resolved { plan, store, mut resources, .. } = arguments.resolve(false)?;
    let workers = arguments.workers()?;
    let time = plan.time(&store, arguments.group_size(), &workers, &mut resources)?;
    output::line(format_args!("{}", plan.summary(&store, &time, workers.count)))?;
    for beat in lock::running(&store) {
        let lock::Heartbeat { label, host, process, done, total } = beat;
        output::line(format_args!("running: {label}, step {done} of {total} ({host}, process {process})"))?;
    }
    for failure in failure::all(&store) {
        output::line(format_args!("failed: {}: {}", failure.label, failure.reason))?;
    }
    slurm::status(&store)?;
    Ok(())
}

pub(crate) fn run(RunArguments { common: arguments, calibrate }: &RunArguments) -> Result<()> {
    let stop = StopFlag::install(RUNNER_DEADLINE)?;
    if arguments.slurm.is_selected() {
        // The devices are another machine's.
        let Resolved { plan, store, mut resources, .. } = stop.interruptible(|| arguments.resolve(true))?;
        return slurm::submit(arguments, &plan, &store, &mut resources);
    }
    let pool = arguments.pool()?;
    let mut resolved = stop.interruptible(|| arguments.resolve(true))?;
    if *calibrate {
        arguments.calibrate(&resolved.plan)?;
    }
    let workers = arguments.workers()?;
    arguments.describe(&mut resolved, &workers)?;
    let Resolved { plan, store, .. } = resolved;
    let (group, device) = (arguments.group_size(), &workers.memory);
    create_folder(&store.folder)?;
    let mut misfits: Vec<(Run, String)> = Vec::new();
    let mut execute = |title: &str, runs: &[Run]| -> Result<Option<anyhow::Error>> {
        let grouped = plan.groups(runs, group, device)?;
        misfits.extend(grouped.misfits);
        failed_runs(pool.run(title, &grouped.groups, grouped.need, &store, &stop))
    };
    for row in &plan.finals {
        failure::clear(&store, &row.run.name()?)?;
    }
    let tuning = execute("tuning on val", &plan.tune)?;
    let chosen = plan.final_runs(&store)?;
    // What fits depends on the device: a later command may have another one.
    let left_out = plan.groups(&chosen.all(), group, device)?.misfits;
    run_plan(&plan.settings, &chosen.all(), &left_out)?.add_to(&store.folder)?;
    let finals = execute("running", &chosen.runs)?;
    for (run, reason) in &left_out {
        failure::mark_failed(&store, &run.name()?, &run.label(), reason, RUN_FAILED)?;
    }
    for run in &chosen.untuned {
        let reason = "it was not run, because its tuning failed";
        failure::mark_failed(&store, &run.name()?, &run.label(), reason, RUN_FAILED)?;
    }
    let misfits = refused(&store, misfits, chosen.all().len() + plan.tune.len())?;
    let table = crate::commands::report::compare(&arguments.results, &plan.experiment, Some(&plan.profile));
    // What failed is the cause of a table that is not complete, or that does not exist.
    match tuning.or(finals).or(misfits) {
        Some(error) => Err(error),
        None => table,
    }
}

/// Reports the runs that were left out because they do not fit, once for each method and backbone; returns their error.
fn refused(store: &Store, misfits: Vec<(Run, String)>, runs: usize) -> Result<Option<anyhow::Error>> {
    let mut open = Vec::new();
    for (run, reason) in misfits {
        if !store.is_done(&run.name()?) {
            open.push((run, reason));
        }
    }
    let mut said = BTreeSet::new();
    for (run, reason) in &open {
        let line = format!("{} on {}: {reason}", run.row_label()?, run.backbone_label());
        if said.insert(line.clone()) {
            message(format_args!("san: {line}"));
        }
    }
    let error = |(run, reason): &(Run, String)| RunError::RunsFailed {
        failed: open.len(),
        runs,
        label: run.label(),
        reason: reason.clone(),
        code: RUN_FAILED,
    };
    Ok(open.first().map(|first| error(first).into()))
}

/// The error of runs that failed, which does not end the sweep; any other error does.
fn failed_runs(result: Result<()>) -> Result<Option<anyhow::Error>> {
    let Err(error) = result else { return Ok(None) };
    let of_runs = match error.downcast_ref() {
        Some(RunError::RunsFailed { code, .. }) => *code != WRITE,
        Some(RunError::Workers { code, .. }) => *code != i32::from(WRITE),
        _ => false,
    };
    if of_runs { Ok(Some(error)) } else { Err(error) }
}
