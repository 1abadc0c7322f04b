//! Bodies of requests: read whole, within memory that all of them share.

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::header::CONTENT_LENGTH;
use lode_node::command::{Failure, FailureKind};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    answer::Problem,
    limits::{
        PLACE_TIMEOUT, QDRANT_BODY_BYTES_MAX, QDRANT_ROOM_BYTES, QDRANT_UNREAD_BYTES_MAX,
        QDRANT_VALUE_BYTES_MAX,
    },
    route::Request,
};

/// What room is handed out in.
const UNIT_BYTES: usize = 16 << 10;

/// What a body becomes, which says what memory it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// Points: twice their text at the most.
    Points,
    /// Values: many times their text, up to a bound.
    Values,
}

impl As {
    fn cost(self, bytes: usize) -> usize {
        match self {
            Self::Points => bytes * 3,
            Self::Values => bytes + (bytes * 16).min(QDRANT_VALUE_BYTES_MAX),
        }
    }
}

static ROOM: Semaphore = Semaphore::const_new(QDRANT_ROOM_BYTES / UNIT_BYTES);

/// A body, and the room that it takes.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) bytes: Vec<u8>,
    _room: SemaphorePermit<'static>,
}

/// All of a request's body.
///
/// # Errors
/// 400 for one that is too long, as Qdrant says it; 503 when others have all the room.
pub(crate) async fn take(request: &mut Request, what: As) -> Result<Taken, Problem> {
    let mut body = std::mem::take(&mut request.body);
    let length = request
        .headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if let Some(length) = length.filter(|length| *length > QDRANT_BODY_BYTES_MAX) {
        drain(&mut body).await;
        return Err(too_long(&format!(" ({length} bytes)")));
    }
    // who does not say how much it is may send the most
    let bytes = length.unwrap_or(QDRANT_BODY_BYTES_MAX);
    let units = u32::try_from(what.cost(bytes).div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    let room = match tokio::time::timeout(PLACE_TIMEOUT, ROOM.acquire_many(units)).await {
        Ok(Ok(room)) => room,
        _ => {
            return Err(Problem::from(Failure {
                kind: FailureKind::NoPeer,
                message: "this node takes as much at once as it has memory for".to_owned(),
                advice: Some("ask again later".to_owned()),
            }));
        }
    };
    let mut bytes = Vec::with_capacity(length.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::usage(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > QDRANT_BODY_BYTES_MAX {
            drain(&mut body).await;
            return Err(too_long(""));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Taken { bytes, _room: room })
}

/// Reads on what was refused, within bounds, so that clients which send before they listen hear of it.
async fn drain(body: &mut UnsyncBoxBody<Bytes, hyper::Error>) {
    let mut left = QDRANT_UNREAD_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let read = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(read) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

fn too_long(found: &str) -> Problem {
    Problem::usage(format!(
        "Payload error: JSON payload{found} is larger than allowed (limit: {QDRANT_BODY_BYTES_MAX} bytes)."
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    const FRAME_BYTES: usize = 1 << 20;

    /// A body without end that counts what is read of it.
    fn endless(read: &Arc<AtomicUsize>) -> UnsyncBoxBody<Bytes, hyper::Error> {
        let read = Arc::clone(read);
        let frames = std::iter::from_fn(move || {
            read.fetch_add(FRAME_BYTES, Ordering::Relaxed);
            Some(Ok(Frame::data(Bytes::from_static(&[b' '; FRAME_BYTES]))))
        });
        StreamBody::new(futures_lite::stream::iter(frames)).boxed_unsync()
    }

    #[tokio::test]
    async fn of_what_is_refused_no_more_is_read_than_a_bound() {
        let read = Arc::new(AtomicUsize::new(0));
        drain(&mut endless(&read)).await;
        // the frame that passes the bound is the last
        let last = QDRANT_UNREAD_BYTES_MAX + FRAME_BYTES;
        assert_eq!(read.load(Ordering::Relaxed), last);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_room_is_told_to_come_back() {
        // all but what the smallest body takes
        let all = u32::try_from(QDRANT_ROOM_BYTES / UNIT_BYTES).unwrap();
        let held = ROOM.acquire_many(all - 1).await.unwrap();
        let request = |len: usize| Request {
            method: hyper::Method::PUT,
            headers: [(CONTENT_LENGTH, len.into())].into_iter().collect(),
            target: crate::target::Target::parse("/", None).unwrap().into(),
            params: crate::route::Params::default(),
            tls: false,
            body: http_body_util::Full::new(Bytes::from(vec![b' '; len]))
                .map_err(|never| match never {})
                .boxed_unsync(),
        };
        let fits = UNIT_BYTES / 3;
        let taken = take(&mut request(fits), As::Points).await.unwrap();
        assert_eq!(taken.bytes.len(), fits);
        drop(taken);
        let refused = take(&mut request(fits + 1), As::Points).await;
        assert_eq!(refused.unwrap_err().status().as_u16(), 503);
        drop(held);
        assert!(take(&mut request(fits + 1), As::Points).await.is_ok());
    }
}
