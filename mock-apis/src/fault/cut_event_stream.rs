//! Server-sent events that end in the middle of one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Act, Effect, Reply, Scene, Step};

/// Sends whole events and then half of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CutEventStream {
    /// Whole events before the cut.
    pub events: u32,
}

impl Default for CutEventStream {
    fn default() -> Self {
        Self { events: 2 }
    }
}

impl Effect for CutEventStream {
    const ABOUT: &'static str = "server-sent events that end in the middle of one";
    const MESSAGE: bool = true;

    fn act(&self, scene: &mut Scene<'_>) -> Act {
        let data = String::from_utf8_lossy(&scene.normal.body).replace('\n', "\ndata: ");
        let head = Reply::new(200).with("content-type", "text/event-stream").head(None);
        let event = |id: u32| format!("id: {id}\nevent: message\ndata: {data}\n\n");
        let mut steps = vec![Step::Send(head)];
        steps.extend((1..=self.events.min(10_000)).map(|id| Step::Send(event(id).into())));
        let last = event(self.events.saturating_add(1)).into_bytes();
        let half = last.len() / 2;
        steps.push(Step::Send(last[..half].to_vec().into()));
        Act::Raw(steps)
    }
}
