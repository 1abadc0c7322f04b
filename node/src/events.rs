//! Where a command's progress goes, and how it is told to stop.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::command::{Event, JobRow};

/// Shortest time between two progress events of one job.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The receiving side of a command: events for its caller, a job row for `status`, and a token
/// that is cancelled when the caller leaves.
#[derive(Debug, Clone)]
pub struct EventSink {
    sender: Option<mpsc::UnboundedSender<Event>>,
    cancel: CancellationToken,
    job: Arc<Mutex<JobState>>,
    paused: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
struct JobState {
    row: JobRow,
    phase_start: Instant,
    last_sent: Option<Instant>,
}

impl EventSink {
    /// A sink that sends to `sender` and stops on `cancel`.
    pub fn new(sender: mpsc::UnboundedSender<Event>, cancel: CancellationToken) -> Self {
        Self {
            sender: Some(sender),
            cancel,
            job: JobState::shared(),
            paused: Arc::new(watch::Sender::new(false)),
        }
    }

    /// A sink that keeps nothing.
    pub fn discard() -> Self {
        Self {
            sender: None,
            cancel: CancellationToken::new(),
            job: JobState::shared(),
            paused: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Names the job for `status`.
    pub fn start(&self, kind: &str, name: &str) {
        let mut job = self.lock();
        job.row.kind = kind.to_owned();
        job.row.name = name.to_owned();
    }

    /// Tells the caller something.
    pub fn note(&self, text: impl Into<String>) {
        self.send(Event::Note { text: text.into() });
    }

    /// Tells the caller that something is not as it should be.
    pub fn warn(&self, text: impl Into<String>) {
        self.send(Event::Warning { text: text.into() });
    }

    /// Says how far `phase` has come, in bytes. Cheap: most calls only store the figures.
    pub fn progress(&self, phase: &str, done: u64, total: u64, peers: u32) {
        let event = {
            let mut job = self.lock();
            let new_phase = job.row.phase != phase;
            if new_phase {
                job.row.phase = phase.to_owned();
                job.phase_start = Instant::now();
            }
            (job.row.done, job.row.total, job.row.peers) = (done, total, peers);
            let due = job
                .last_sent
                .is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
            if !(due || new_phase || (total > 0 && done >= total)) {
                return;
            }
            job.last_sent = Some(Instant::now());
            Event::Progress {
                phase: phase.to_owned(),
                done,
                total,
                peers,
            }
        };
        self.send(event);
    }

    /// Whether the caller has left or asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// The token behind [`Self::is_cancelled`].
    pub fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Whether the job is to hold back, as it changes.
    pub fn paused(&self) -> watch::Receiver<bool> {
        self.paused.subscribe()
    }

    fn set_paused(&self, paused: bool) {
        if self.paused.send_replace(paused) != paused {
            self.note(if paused {
                "paused; `lode resume` lets it go on"
            } else {
                "resumed"
            });
        }
    }

    fn row(&self) -> JobRow {
        let job = self.lock();
        let elapsed_ms = job.phase_start.elapsed().as_millis().max(1);
        let rate = u128::from(job.row.done) * 1000 / elapsed_ms;
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        let left = job.row.total.saturating_sub(job.row.done);
        JobRow {
            rate,
            seconds_left: left.checked_div(rate).filter(|_| job.row.total > 0),
            paused: *self.paused.borrow(),
            ..job.row.clone()
        }
    }

    fn send(&self, event: Event) {
        if let Some(sender) = &self.sender {
            // A caller that left has cancelled the token; its events have no reader any more.
            let _ = sender.send(event);
        }
    }

    fn lock(&self) -> MutexGuard<'_, JobState> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl JobState {
    fn shared() -> Arc<Mutex<Self>> {
        let row = JobRow {
            kind: String::new(),
            name: String::new(),
            phase: String::new(),
            done: 0,
            total: 0,
            rate: 0,
            peers: 0,
            seconds_left: None,
            paused: false,
        };
        Arc::new(Mutex::new(Self {
            row,
            phase_start: Instant::now(),
            last_sent: None,
        }))
    }
}

/// The commands under way.
#[derive(Debug, Default)]
pub struct Jobs {
    next: AtomicU64,
    running: Mutex<Vec<(u64, EventSink)>>,
    ended: Notify,
}

impl Jobs {
    /// Lists `sink` until the guard is dropped.
    pub fn enter(self: &Arc<Self>, sink: &EventSink) -> JobGuard {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().push((id, sink.clone()));
        JobGuard {
            jobs: Arc::clone(self),
            id,
        }
    }

    /// Waits until no job is left: each has cleaned up after itself.
    pub async fn idle(&self) {
        loop {
            // Registered before the look, so that an end between the two is not missed.
            let mut ended = std::pin::pin!(self.ended.notified());
            ended.as_mut().enable();
            if self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// One row a job that has been named.
    pub fn rows(&self) -> Vec<JobRow> {
        self.lock()
            .iter()
            .map(|(_, sink)| sink.row())
            .filter(|row| !row.kind.is_empty())
            .collect()
    }

    /// Holds the pulls of `name` back, or lets them go on; all of them without a name. Returns their names.
    ///
    /// `alias/model` stands for pulls of any version of it.
    pub fn set_paused(&self, name: Option<&str>, paused: bool) -> Vec<String> {
        let is_meant = |row: &JobRow| {
            let model = row.name.split('@').next();
            row.kind == "pull" && name.is_none_or(|name| row.name == name || model == Some(name))
        };
        let running = self.lock();
        let meant = running.iter().filter_map(|(_, sink)| {
            let row = sink.row();
            is_meant(&row).then(|| {
                sink.set_paused(paused);
                row.name
            })
        });
        meant.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, EventSink)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a job in the list while it lives.
#[derive(Debug)]
pub struct JobGuard {
    jobs: Arc<Jobs>,
    id: u64,
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        self.jobs.lock().retain(|(id, _)| *id != self.id);
        self.jobs.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_job_is_listed_while_it_runs_and_its_end_is_always_told() {
        let (sender, mut events) = mpsc::unbounded_channel();
        let sink = EventSink::new(sender, CancellationToken::new());
        let jobs = Arc::new(Jobs::default());
        let guard = jobs.enter(&sink);
        sink.start("pull", "acme/tiny");
        for done in 0..=1000 {
            sink.progress("fetch", done, 1000, 1);
        }
        assert_eq!(jobs.rows()[0].done, 1000);
        drop(guard);
        assert!(jobs.rows().is_empty());
        let mut last = None;
        while let Ok(event) = events.try_recv() {
            last = Some(event);
        }
        assert!(matches!(last.unwrap(), Event::Progress { done: 1000, .. }));
    }

    #[test]
    fn a_pause_holds_the_pulls_of_a_name_and_nothing_else() {
        let jobs = Arc::new(Jobs::default());
        let job = |kind, name| {
            let sink = EventSink::discard();
            sink.start(kind, name);
            (jobs.enter(&sink), sink)
        };
        let (_a, first) = job("pull", "acme/tiny@v1");
        let (_b, second) = job("pull", "acme/large");
        let (_c, push) = job("push", "acme/tiny");
        assert!(jobs.set_paused(Some("acme/other"), true).is_empty());
        assert_eq!(jobs.set_paused(Some("acme/tiny"), true), ["acme/tiny@v1"]);
        assert!(*first.paused().borrow() && !*second.paused().borrow());
        assert!(jobs.rows()[0].paused && !jobs.rows()[1].paused);
        assert_eq!(jobs.set_paused(None, true).len(), 2);
        assert!(!*push.paused().borrow());
        assert_eq!(jobs.set_paused(None, false).len(), 2);
        assert!(!*first.paused().borrow() && !*second.paused().borrow());
    }

    #[tokio::test]
    async fn idle_waits_for_the_last_job() {
        let jobs = Arc::new(Jobs::default());
        jobs.idle().await;
        let (first, second) = (
            jobs.enter(&EventSink::discard()),
            jobs.enter(&EventSink::discard()),
        );
        let waiting = tokio::spawn({
            let jobs = Arc::clone(&jobs);
            async move { jobs.idle().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}
