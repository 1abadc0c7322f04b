//! Variants that are made because a client of a registry asked for one.
//!
//! A manifest names files by their SHA-256, which nobody knows of a file that was never made. So the first request
//! for such a manifest starts `lode variant make`, and is answered 503 with `Retry-After` until it is done. What was
//! made is kept under a claim, as that command keeps it. One is made at a time, few wait, and one that failed is not
//! tried again at once.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hyper::StatusCode;
use lode_node::{
    EventSink,
    command::{Command, Failure, FailureKind},
    variants::VariantId,
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    answer::Problem,
    control::Backend,
    limits::{OCI_MADE_AT_ONCE, OCI_MAKING_MAX, OCI_MAKING_RETRY},
};

/// The variants that are being made.
pub(crate) struct Making {
    backend: Arc<dyn Backend>,
    stopping: CancellationToken,
    turns: Semaphore,
    jobs: Mutex<HashMap<VariantId, Job>>,
}

enum Job {
    /// It waits for its turn, or is being made.
    Running,
    /// It could not be made.
    Failed(Failure, Instant),
}

impl fmt::Debug for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Making({} variants)", self.jobs().len())
    }
}

impl Making {
    pub(crate) fn new(backend: Arc<dyn Backend>, stopping: CancellationToken) -> Self {
        Self {
            backend,
            stopping,
            turns: Semaphore::new(OCI_MADE_AT_ONCE),
            jobs: Mutex::default(),
        }
    }

    /// Has a variant made, by its full name, and says what to tell who asks for it meanwhile.
    pub(super) fn ask(self: &Arc<Self>, id: VariantId, name: String) -> Problem {
        let mut jobs = self.jobs();
        jobs.retain(|_, job| match job {
            Job::Running => true,
            Job::Failed(_, since) => since.elapsed() < OCI_MAKING_RETRY,
        });
        match jobs.get(&id) {
            Some(Job::Running) => return later("this variant is being made"),
            Some(Job::Failed(failure, _)) => return failure.clone().into(),
            None if running(&jobs) >= OCI_MAKING_MAX => {
                return later("as many variants as this node makes are being made");
            }
            None => {}
        }
        jobs.insert(id, Job::Running);
        let this = Arc::clone(self);
        tokio::spawn(async move { this.make(id, name).await });
        later("this variant is being made")
    }

    async fn make(self: Arc<Self>, id: VariantId, name: String) {
        let made = tokio::select! {
            made = self.in_turn(name) => made,
            () = self.stopping.cancelled() => Err(stopping()),
        };
        let mut jobs = self.jobs();
        jobs.remove(&id);
        if let Err(failure) = made {
            tracing::warn!(variant = %id, %failure, "a variant that a registry's client asked for is not made");
            jobs.insert(id, Job::Failed(failure, Instant::now()));
        }
    }

    async fn in_turn(&self, name: String) -> Result<(), Failure> {
        let _turn = self.turns.acquire().await;
        let (sender, mut events) = mpsc::unbounded_channel();
        // Nobody listens; `lode status` shows how far it is.
        events.close();
        let sink = EventSink::new(sender, self.stopping.child_token());
        let from = Vec::new();
        self.backend
            .run(Command::VariantMake { name, from }, sink)
            .await?;
        Ok(())
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<VariantId, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many are being made, or wait.
fn running(jobs: &HashMap<VariantId, Job>) -> usize {
    let running = jobs.values().filter(|job| matches!(job, Job::Running));
    running.count()
}

fn stopping() -> Failure {
    Failure {
        kind: FailureKind::Failed,
        message: "the node is stopping".to_owned(),
        advice: None,
    }
}

/// 503: ask again.
fn later(message: &str) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        FailureKind::NoPeer,
        message,
    )
    .advise("ask again; `lode variant make` makes it ahead")
    .code("UNAVAILABLE")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{control::Run, published::Published};
    use lode_node::{read::Reads, variants::Recipe};
    use lode_store::TreeId;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A node that is never done with what it is told, or fails at once.
    struct Slow {
        reads: Reads,
        fails: bool,
        begun: Arc<AtomicUsize>,
        _folder: tempfile::TempDir,
    }

    impl Backend for Slow {
        fn run(&self, _: Command, _: EventSink) -> Run<'_> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            match self.fails {
                true => Box::pin(std::future::ready(Err(stopping()))),
                false => Box::pin(std::future::pending()),
            }
        }

        fn reads(&self) -> &Reads {
            &self.reads
        }
    }

    fn making(fails: bool) -> (Arc<Making>, Arc<AtomicUsize>) {
        let folder = tempfile::tempdir().unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let reads = Reads::new(Published::new(folder.path()).store);
        let backend = Slow {
            reads,
            fails,
            begun: Arc::clone(&begun),
            _folder: folder,
        };
        let making = Making::new(Arc::new(backend), CancellationToken::new());
        (Arc::new(making), begun)
    }

    fn id(number: usize) -> VariantId {
        let recipe = Recipe::named("q8_0", ["model.gguf"]).unwrap();
        VariantId::new(TreeId::from(blake3::hash(&number.to_le_bytes())), &recipe)
    }

    fn ask(making: &Arc<Making>, number: usize) -> String {
        let problem = making.ask(id(number), format!("acme/tiny:{number}"));
        format!("{problem:?}")
    }

    #[tokio::test]
    async fn so_many_variants_wait_and_one_is_made_at_a_time() {
        let (making, begun) = making(false);
        for number in 0..OCI_MAKING_MAX {
            assert!(ask(&making, number).contains("is being made"));
        }
        assert!(ask(&making, OCI_MAKING_MAX).contains("as many variants"));
        assert!(
            ask(&making, 0).contains("is being made"),
            "it waits already"
        );
        for _ in 0..10 * OCI_MAKING_MAX {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), OCI_MADE_AT_ONCE);
    }

    #[tokio::test]
    async fn what_could_not_be_made_is_tried_again_after_a_while() {
        let (making, begun) = making(true);
        ask(&making, 1);
        while running(&making.jobs()) > 0 {
            tokio::task::yield_now().await;
        }
        assert!(ask(&making, 1).contains("stopping"), "why, at once");
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        for job in making.jobs().values_mut() {
            if let Job::Failed(_, since) = job {
                *since -= OCI_MAKING_RETRY;
            }
        }
        ask(&making, 1);
        while running(&making.jobs()) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}
