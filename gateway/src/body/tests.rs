#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
use super::*;
use crate::limits::STEP_BYTES;
use http_body_util::BodyExt;
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Answers with less than asked for, as chunk borders do; notes what was asked.
struct Uneven {
    bytes: Vec<u8>,
    asked: Mutex<Vec<ByteRange>>,
    fails_at: u64,
}

impl Uneven {
    fn new(length: u64, fails_at: u64) -> Arc<Self> {
        Arc::new(Self {
            bytes: (0..length).map(|at| (at % 251) as u8).collect(),
            asked: Mutex::default(),
            fails_at,
        })
    }
}

impl Source for Uneven {
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
        self.asked.lock().unwrap().push(range);
        if range.end > self.fails_at {
            return Err(broken("planted"));
        }
        let end = range.end.min(range.start + 1 + range.len() * 2 / 3);
        Ok(Bytes::copy_from_slice(
            &self.bytes[range.start as usize..end as usize],
        ))
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Ok(())
    }
}

fn range(start: u64, end: u64) -> Part {
    Part::Range(ByteRange { start, end })
}

#[tokio::test]
async fn parts_come_out_whole_and_in_order() {
    let length = STEP_BYTES * 5 + 17;
    let source = Uneven::new(length, u64::MAX);
    let parts = vec![
        Part::Text(Bytes::from_static(b"head")),
        range(10, length),
        Part::Text(Bytes::from_static(b"")),
        range(7, 7),
        range(0, 3),
        Part::Text(Bytes::from_static(b"tail")),
    ];
    let body = Body::of_parts(source.clone(), parts).await.unwrap();
    assert_eq!(
        hyper::body::Body::size_hint(&body).exact(),
        Some(length - 10 + 11)
    );
    let found = body.collect().await.unwrap().to_bytes();
    let mut expected = b"head".to_vec();
    expected.extend(&source.bytes[10..]);
    expected.extend(&source.bytes[..3]);
    expected.extend(b"tail");
    assert!(found == expected);
    let asked = source.asked.lock().unwrap();
    assert!(asked.iter().all(|range| range.len() <= STEP_BYTES));
}

#[tokio::test]
async fn what_fails_at_once_fails_before_the_response() {
    let error = Body::of_parts(Uneven::new(10, 5), vec![range(0, 10)]).await;
    assert_eq!(error.unwrap_err().message, "planted");
}

#[tokio::test]
async fn what_fails_later_cuts_the_body() {
    let source = Uneven::new(STEP_BYTES * 4, STEP_BYTES * 3);
    let mut body = Body::of_parts(source, vec![range(0, STEP_BYTES * 4)])
        .await
        .unwrap();
    let mut sent = 0;
    let error = loop {
        match body.frame().await.unwrap() {
            Ok(frame) => sent += frame.into_data().unwrap().len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "planted");
    assert!((STEP_BYTES..=STEP_BYTES * 3).contains(&sent));
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_reading() {
    let source = Uneven::new(STEP_BYTES * 40, u64::MAX);
    let mut body = Body::of_parts(source.clone(), vec![range(0, STEP_BYTES * 40)])
        .await
        .unwrap();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let asked = source.asked.lock().unwrap().len();
    assert!(asked <= 5, "{asked} reads for three frames");
}

/// Bytes that are always there at once.
struct Ready;

impl Source for Ready {
    fn read(&self, _: ByteRange) -> Result<Bytes, Failure> {
        unreachable!("they are fetched")
    }

    fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
        Ok(())
    }

    fn fetch(self: Arc<Self>, range: ByteRange, _: u64) -> Option<Pending<Bytes>> {
        let bytes = Bytes::from(vec![7; range.len() as usize]);
        Some(Box::pin(std::future::ready(Ok(bytes))))
    }
}

#[tokio::test]
async fn other_connections_are_answered_between_the_steps_of_a_long_body() {
    let turns = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let mut body = Body::of_distant(Arc::new(Ready), vec![range(0, STEP_BYTES * 20)]);
    let (mut sent, mut seen) = (0, 0);
    while let Some(frame) = body.frame().await {
        let before = sent / TURN_BYTES;
        sent += frame.unwrap().into_data().unwrap().len() as u64;
        let now = turns.load(Ordering::Relaxed);
        if before > seen {
            assert!(now as u64 >= before, "{now} turns before byte {sent}");
            seen = before;
        }
    }
    assert!(sent == STEP_BYTES * 20 && seen >= 8, "{seen} turns");
    other.abort();
}

#[tokio::test]
async fn a_list_is_made_in_steps() {
    let rows = (0..50_000).map(|at: u32| at.to_string());
    let mut body = Body::of_rows("{\"rows\":[".to_owned(), rows, "]}");
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let bytes = frame.unwrap().into_data().unwrap();
        assert!(bytes.len() < JSON_STEP_BYTES + 64);
        text.extend_from_slice(&bytes);
    }
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["rows"].as_array().unwrap().len(), 50_000);
}
