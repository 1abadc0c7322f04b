//! Bodies of requests whose client stops sending: they are waited for so long, and no longer.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep, sleep_until};

/// Since when the next bytes of a body are waited for.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    since: Arc<Mutex<Option<Instant>>>,
    limit: Duration,
}

/// A body, and since when it keeps its reader waiting.
pub(crate) struct Awaited<B> {
    body: B,
    patience: Patience,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            since: Arc::default(),
            limit,
        }
    }

    /// The same body, watched.
    pub(crate) fn watch<B>(&self, body: B) -> Awaited<B> {
        Awaited {
            body,
            patience: self.clone(),
        }
    }

    /// Ends when the body kept its reader waiting for too long. Time in which nobody reads does not count.
    pub(crate) async fn exhausted(&self) {
        loop {
            let since = *self.since();
            match since.map(|since| since + self.limit) {
                None => sleep(self.limit).await,
                Some(end) if end <= Instant::now() => return,
                Some(end) => sleep_until(end).await,
            }
        }
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Awaited<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        let mut since = self.patience.since();
        match next.is_pending() {
            true => _ = since.get_or_insert_with(Instant::now),
            false => *since = None,
        }
        drop(since);
        next
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Awaited<B> {
    fn drop(&mut self) {
        *self.patience.since() = None;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http_body_util::{BodyExt, Full};

    use super::*;

    /// A body that never comes.
    struct Never;

    impl Body for Never {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            Poll::Pending
        }
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let patience = Patience::new(Duration::from_millis(10));
        let mut body = patience.watch(Never);
        tokio::select! {
            _ = body.frame() => panic!("nothing comes"),
            () = patience.exhausted() => {}
        }
    }

    #[tokio::test]
    async fn time_in_which_nobody_reads_does_not_count() {
        let patience = Patience::new(Duration::from_millis(10));
        let body = patience.watch(Full::new(Bytes::from_static(b"all")));
        let mut exhausted = Box::pin(patience.exhausted());
        let rounds = async {
            for _ in 0..5 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = &mut exhausted => panic!("nobody reads"),
            () = rounds => {}
        }
        assert_eq!(body.collect().await.unwrap().to_bytes(), "all");
    }
}
