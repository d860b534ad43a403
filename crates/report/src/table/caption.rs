//! The caption of a comparison, and the metrics that it and the notes name.

use crate::comparison::Comparison;
use crate::text::count_of;

impl Comparison {
    /// Names of metrics, each with its data sets, in the order of the columns. Records of earlier versions do not name
    /// their metric.
    pub(super) fn metrics(&self) -> Vec<(String, Vec<String>)> {
        let mut metrics: Vec<(String, Vec<String>)> = Vec::new();
        for set in &self.datasets {
            let mut of_set = self.records.iter().filter(|stored| stored.record.dataset.name == set.name);
            let Some(metric) =
                of_set.find_map(|stored| Some(&stored.record.metrics.metric).filter(|name| !name.is_empty()))
            else {
                continue;
            };
            match metrics.iter_mut().find(|(name, _)| name == metric) {
                Some((_, sets)) => sets.push(set.name.clone()),
                None => metrics.push((metric.clone(), vec![set.name.clone()])),
            }
        }
        metrics
    }

    /// Suite, experiment where it is named otherwise, profile and backbone, as the captions name them.
    pub(crate) fn title(&self) -> String {
        let suite = self.suite.to_uppercase();
        let experiment = self.experiment();
        let suite = if experiment == self.suite { suite } else { format!("{suite} ({experiment})") };
        format!("{suite}, profile {}, backbone {}", self.profile, self.backbone)
    }

    pub(super) fn caption(&self) -> String {
        let origin = &self.origin;
        // Several metrics are listed in a note.
        let metric = Some(self.metrics()).filter(|metrics| metrics.len() == 1).unwrap_or_default();
        let seeds: Vec<String> = self.seeds.iter().map(u64::to_string).collect();
        let epochs =
            origin.protocol.get("epochs").map_or(String::new(), |epochs| format!(", {epochs} epochs"));
        let commits: Vec<&str> =
            origin.commits.iter().map(|commit| commit.get(..12).unwrap_or(commit)).collect();
        let data = match origin.splits.as_slice() {
            [] => String::new(),
            splits => format!(", data {}", splits.join(" and ")),
        };
        let dirty = if origin.dirty { " with uncommitted changes" } else { "" };
        format!(
            "{}{data}{epochs}: {} in %, mean ± sd over {} ({}). \
             Code {}{dirty}; device {}.",
            self.title(),
            metric.first().map_or("score", |(metric, _)| metric),
            count_of(seeds.len(), "seed"),
            seeds.join(", "),
            commits.join(", "),
            origin.devices.join(", "),
        )
    }
}
