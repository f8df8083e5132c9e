//! How long each stage of an operation took: a list in order, whose parts add up to the whole.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Stages by name, in nanoseconds, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stages(pub Vec<(String, u64)>);

impl Stages {
    /// Sum of all stages.
    pub fn total_ns(&self) -> u64 {
        self.0.iter().map(|(_, ns)| ns).sum()
    }
}

/// Measures stages, each from the end of the one before.
pub struct Stopwatch {
    stages: Stages,
    last: Instant,
}

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            stages: Stages::default(),
            last: Instant::now(),
        }
    }

    /// The stage `name` ends now.
    pub fn lap(&mut self, name: &str) {
        let now = Instant::now();
        let ns = u64::try_from(now.duration_since(self.last).as_nanos()).unwrap_or(u64::MAX);
        self.stages.0.push((name.to_owned(), ns));
        self.last = now;
    }

    /// All stages.
    pub fn finish(self) -> Stages {
        self.stages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_keep_their_order_and_add_up() {
        let mut watch = Stopwatch::start();
        watch.lap("b");
        watch.lap("a");
        let stages = watch.finish();
        assert_eq!(stages.0[0].0, "b");
        assert_eq!(stages.total_ns(), stages.0[0].1 + stages.0[1].1);
        let text = serde_json::to_string(&Stages(vec![("x".into(), 5)])).unwrap();
        assert_eq!(text, r#"[["x",5]]"#);
    }
}
