//! Urgent and other fetches of one node: what somebody waits for overtakes what is merely wanted.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by all fetches of a node. While an urgent one lives, the others begin no new request.
#[derive(Debug)]
pub struct Lanes {
    urgent: watch::Sender<usize>,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            urgent: watch::Sender::new(0),
        }
    }
}

/// Keeps the others waiting while it lives.
#[derive(Debug)]
pub struct Urgent(Arc<Lanes>);

impl Lanes {
    /// Holds the others back until the guard is dropped.
    pub fn urgent(self: &Arc<Self>) -> Urgent {
        self.urgent.send_modify(|count| *count += 1);
        Urgent(Arc::clone(self))
    }

    /// Waits until no urgent fetch is left.
    pub(super) async fn free(&self) {
        let mut urgent = self.urgent.subscribe();
        urgent.wait_for(|count| *count == 0).await.ok();
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.urgent.send_modify(|count| *count -= 1);
    }
}
