//! Bodies of responses: bytes at hand, ranges read step by step, and lists made row by row.
//!
//! Whatever its length, a body holds two steps at most: the one being sent, and the one being read
//! meanwhile on a thread where reading may block. A client that leaves drops the body, and with it
//! whatever was still to be read.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use lode_node::command::{Failure, FailureKind};
use lode_tensors::ByteRange;
use tokio::task::JoinHandle;

use crate::{
    limits::{JSON_STEP_BYTES, SHORT_STEP_BYTES, TURN_BYTES},
    metrics::Counters,
    place::Place,
};

/// Where the bytes of a body come from.
pub trait Source: Send + Sync + 'static {
    /// Reads the first bytes of `range`, which is not empty: at least one, at most all of them.
    /// Blocks. What it returns has been checked or comes from where bytes are trusted.
    ///
    /// # Errors
    /// Bytes that are not held, not what they must be, or cannot be read.
    fn read(&self, range: ByteRange) -> Result<Bytes, Failure>;

    /// The same bytes for another reader; nothing where they are not worth remembering.
    fn again(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// All of `range`, which is short, if it can be had without waiting. Does not block.
    fn read_at_hand(&self, _range: ByteRange) -> Option<Bytes> {
        None
    }

    /// Whether all of `range`, which is not empty, is held. Blocks; reads no content.
    ///
    /// # Errors
    /// Some of it is not held now.
    fn check_held(&self, range: ByteRange) -> Result<(), Failure>;

    /// Whether all of these ranges can be had from elsewhere; waits for that answer, not for bytes.
    /// Nothing when bytes come from here alone.
    fn reach(self: Arc<Self>, _ranges: Vec<ByteRange>) -> Option<Pending<()>> {
        None
    }

    /// As [`Self::read`], from wherever the bytes are, for a reader that goes on to `until`. Nothing
    /// when they come from here alone.
    fn fetch(self: Arc<Self>, _range: ByteRange, _until: u64) -> Option<Pending<Bytes>> {
        None
    }
}

/// Something that takes time and is not a thread's work. Dropping it stops it.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Part {
    /// Bytes at hand, such as the head of a part.
    Text(Bytes),
    /// A range of the source.
    Range(ByteRange),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Text(bytes) => bytes.len() as u64,
            Self::Range(range) => range.len(),
        }
    }
}

/// What stops a body half-way: the connection is cut, so that the client sees that bytes are missing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BodyError(Failure);

/// A body that is sent frame by frame.
pub struct Body {
    kind: Kind,
    counters: Option<Arc<Counters>>,
}

enum Kind {
    Bytes(Option<Bytes>),
    Steps(Steps),
    Stream {
        frames: Pin<Box<dyn Frames>>,
        length: Option<u64>,
    },
}

/// A body that another module makes: control lines, JSON rows.
pub trait Frames: Send + 'static {
    /// The next bytes; nothing at the end.
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>>;
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", hyper::body::Body::size_hint(self).exact())
    }
}

impl Body {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            counters: None,
        }
    }

    /// A body of no bytes.
    pub fn empty() -> Self {
        Self::of(Kind::Bytes(None))
    }

    /// Ranges and texts in order. Reads the first step, so that what fails at once fails before the
    /// response has begun.
    ///
    /// # Errors
    /// The first read failed.
    pub async fn of_parts(source: Arc<dyn Source>, parts: Vec<Part>) -> Result<Self, Failure> {
        let mut steps = Steps::new(source, parts, false);
        steps.first = std::future::poll_fn(|cx| steps.poll_step(cx)).await?;
        Ok(Self::of(Kind::Steps(steps)))
    }

    /// Ranges and texts in order, of a source whose bytes may be elsewhere. Nothing is read before the
    /// head is sent.
    pub fn of_distant(source: Arc<dyn Source>, parts: Vec<Part>) -> Self {
        Self::of(Kind::Steps(Steps::new(source, parts, true)))
    }

    /// A body made elsewhere, of a length that is not known beforehand.
    pub fn of_frames(frames: impl Frames) -> Self {
        Self::of(Kind::Stream {
            frames: Box::pin(frames),
            length: None,
        })
    }

    /// `head`, the texts of `rows` with commas between them, `tail`: a JSON list of any length in
    /// bounded memory.
    pub fn of_rows(
        head: String,
        rows: impl Iterator<Item = String> + Send + Unpin + 'static,
        tail: &'static str,
    ) -> Self {
        Self::of_frames(Rows {
            head: Some(head),
            rows: Some(rows),
            separate: false,
            tail,
        })
    }

    /// The same, its bytes counted as they are sent.
    pub fn counted(self, counters: Arc<Counters>) -> Self {
        Self {
            counters: Some(counters),
            ..self
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::of(Kind::Bytes((!bytes.is_empty()).then_some(bytes)))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = match &mut self.kind {
            Kind::Bytes(bytes) => bytes.take().map(Ok),
            Kind::Steps(steps) => ready!(steps.poll_next(cx)),
            Kind::Stream { frames, length } => {
                let next = ready!(frames.as_mut().poll_next(cx));
                if let (Some(left), Some(Ok(bytes))) = (length, &next) {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                next
            }
        };
        if let (Some(counters), Some(Ok(bytes))) = (&self.counters, &next) {
            counters.add_bytes(bytes.len());
        }
        Poll::Ready(next.map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.is_none(),
            Kind::Steps(steps) => steps.left == 0,
            Kind::Stream { length, .. } => *length == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Bytes(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Steps(steps) => SizeHint::with_exact(steps.left),
            Kind::Stream { length, .. } => {
                length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}

struct Steps {
    source: Arc<dyn Source>,
    /// What is still to be read or sent, without what `reading` reads.
    parts: VecDeque<Part>,
    /// The step that was read before the response began.
    first: Option<Bytes>,
    /// The step being read, and the range that it was asked for.
    reading: Option<(ByteRange, Reading)>,
    /// Memory for the steps, taken before the first one is read.
    place: Room,
    /// Whether bytes may come from elsewhere.
    distant: bool,
    /// Bytes not sent yet.
    left: u64,
    /// Bytes sent since others had their turn.
    in_turn: u64,
    /// Lets other connections of this thread go first: a client that takes bytes as fast as they come would keep it for a hundred steps.
    turn: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

/// Memory for the steps of a body.
enum Room {
    /// Not asked for.
    None,
    /// Asked for.
    Waiting(Pending<Place>),
    /// Taken.
    Taken(Place),
}

/// A step under way.
enum Reading {
    /// On a thread that may block.
    Here(JoinHandle<Result<Bytes, Failure>>),
    /// From elsewhere.
    Elsewhere(Pending<Bytes>),
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, Failure>> {
        match self {
            Self::Here(task) => Pin::new(task).poll(cx).map(|result| {
                result.map_err(|error| broken(format!("reading stopped: {error}")))?
            }),
            Self::Elsewhere(pending) => pending.as_mut().poll(cx),
        }
    }
}

impl Steps {
    fn new(source: Arc<dyn Source>, parts: Vec<Part>, distant: bool) -> Self {
        Self {
            left: parts.iter().map(Part::len).sum(),
            source,
            parts: parts.into_iter().filter(|part| part.len() > 0).collect(),
            first: None,
            reading: None,
            place: Room::None,
            distant,
            in_turn: 0,
            turn: None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
            self.turn = None;
            // Also to whoever waits for the processor: clients on this machine, other threads of the node.
            std::thread::yield_now();
        }
        let next = match self.first.take() {
            Some(bytes) => Some(bytes),
            None => match ready!(self.poll_step(cx)) {
                Ok(next) => next,
                Err(failure) => {
                    tracing::warn!(message = %failure.message, "a body was cut short");
                    return Poll::Ready(Some(Err(BodyError(failure))));
                }
            },
        };
        if let Some(bytes) = &next {
            self.left -= bytes.len() as u64;
            self.in_turn += bytes.len() as u64;
            if self.in_turn >= TURN_BYTES {
                self.in_turn = 0;
                self.turn = Some(Box::pin(tokio::task::yield_now()));
            }
        }
        Poll::Ready(next.map(Ok))
    }

    /// The next bytes; starts to read those after them.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
        ready!(self.poll_place(cx))?;
        if self.reading.is_none() {
            match self.parts.pop_front() {
                None => return Poll::Ready(Ok(None)),
                Some(Part::Text(bytes)) => {
                    self.read_ahead();
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Some(Part::Range(range)) => self.start(range),
            }
        }
        let (asked, bytes) = loop {
            let Some((asked, reading)) = &mut self.reading else {
                return Poll::Ready(Ok(None));
            };
            let result = ready!(reading.poll(cx));
            let asked = *asked;
            self.reading = None;
            match result {
                Ok(bytes) => break (asked, bytes),
                // It was held when the body began, and left since: others may have it.
                Err(failure) if failure.kind == FailureKind::NoPeer && !self.distant => {
                    self.distant = true;
                    let until = self.until(asked.end);
                    match Arc::clone(&self.source).fetch(asked, until) {
                        Some(pending) => self.reading = Some((asked, Reading::Elsewhere(pending))),
                        None => return Poll::Ready(Err(failure)),
                    }
                }
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        };
        let length = bytes.len() as u64;
        if length == 0 || length > asked.len() {
            return Poll::Ready(Err(broken("a read returned another length than asked for")));
        }
        self.put_back(ByteRange {
            start: asked.start + length,
            end: asked.end,
        });
        self.read_ahead();
        Poll::Ready(Ok(Some(bytes)))
    }

    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Room::None = self.place {
            self.place = Room::Waiting(Box::pin(Place::take(self.left)));
        }
        if let Room::Waiting(waiting) = &mut self.place {
            self.place = Room::Taken(ready!(waiting.as_mut().poll(cx))?);
        }
        Poll::Ready(Ok(()))
    }

    fn step_bytes(&self) -> u64 {
        match &self.place {
            Room::Taken(place) => place.step_bytes(),
            Room::None | Room::Waiting(_) => SHORT_STEP_BYTES,
        }
    }

    /// Returns what was not read, joined to what follows it.
    fn put_back(&mut self, range: ByteRange) {
        match self.parts.front_mut() {
            _ if range.is_empty() => {}
            Some(Part::Range(next)) if next.start == range.end => next.start = range.start,
            _ => self.parts.push_front(Part::Range(range)),
        }
    }

    /// Starts the next read, when a range is what comes next.
    fn read_ahead(&mut self) {
        if let Some(Part::Range(range)) = self.parts.front().cloned() {
            self.parts.pop_front();
            self.start(range);
        }
    }

    fn start(&mut self, range: ByteRange) {
        let end = range.end.min(range.start.saturating_add(self.step_bytes()));
        let step = ByteRange {
            start: range.start,
            end,
        };
        self.put_back(ByteRange {
            start: end,
            end: range.end,
        });
        let source = Arc::clone(&self.source);
        let elsewhere = self
            .distant
            .then(|| Arc::clone(&source).fetch(step, range.end))
            .flatten();
        let reading = match elsewhere {
            Some(pending) => Reading::Elsewhere(pending),
            None => Reading::Here(tokio::task::spawn_blocking(move || source.read(step))),
        };
        self.reading = Some((step, reading));
    }

    /// Where a read that ends at `end` goes on to.
    fn until(&self, end: u64) -> u64 {
        match self.parts.front() {
            Some(Part::Range(next)) if next.start == end => next.end,
            _ => end,
        }
    }
}

fn broken(message: impl Into<String>) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        message: message.into(),
        advice: None,
    }
}

struct Rows<I> {
    head: Option<String>,
    rows: Option<I>,
    separate: bool,
    tail: &'static str,
}

impl<I: Iterator<Item = String> + Send + Unpin + 'static> Frames for Rows<I> {
    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        let this = &mut *self;
        let Some(rows) = &mut this.rows else {
            return Poll::Ready(None);
        };
        let mut text = this.head.take().unwrap_or_default();
        while text.len() < JSON_STEP_BYTES {
            let Some(row) = rows.next() else {
                this.rows = None;
                text.push_str(this.tail);
                break;
            };
            if std::mem::replace(&mut this.separate, true) {
                text.push_str(",\n");
            }
            text.push_str(&row);
        }
        Poll::Ready(Some(Ok(text.into())))
    }
}

#[cfg(test)]
mod tests;
