//! Carries out a board's units: streams to one peer, read in bulk and verified on threads that may block, or
//! at once where bytes go to memory.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    ChunkHash,
    piece::Parent,
    sync::{
        decode::{Blob, Decoder, Fault, Plan, Planner, Target},
        limits::{
            CONNECTIONS_PER_PEER_MAX, LEAF_BYTES, PLAN_BYTES, PLAN_QUICK_BYTES,
            SLOW_BYTES_PER_SECOND,
        },
        request::{BlobRequest, RangesSeq},
    },
};

use super::{
    Member, Reason, Shared,
    board::{Take, Unit},
    link::{Ended, Link, Reader},
};

/// Times in a row that a peer may stall.
const STALLS_MAX: u32 = 2;

/// How the work on one unit ended.
#[derive(Debug)]
enum End {
    /// All of it came, or others were faster.
    Complete,
    /// The peer's answer ended in front of this part, in good order.
    Absent(usize),
    /// The stream was reset while this part was expected; the peer lacks some part from here on.
    Reset(usize),
    /// Nothing came for too long.
    Stalled,
    /// Too little came for too long.
    Slow,
    /// Somebody else gets it, and will pass it on.
    GivenAway,
    /// The connection is gone.
    Lost(String),
    /// The peer sent wrong bytes.
    Lied(ChunkHash),
    /// A sink failed.
    Sink(io::Error),
}

/// How often a stream without work looks whether another is held up.
const LOOK: Duration = Duration::from_millis(250);

/// Time over which a peer's speed is taken, when it may get another connection.
const GROWTH_TIME: Duration = Duration::from_secs(1);

/// Works for one peer until the board has nothing more for it.
pub(super) async fn run(shared: Arc<Shared>, member: Arc<Member>) {
    loop {
        let link = match member.peer.link(&shared.options).await {
            Ok(link) => link,
            Err(reason) => return shared.drop_peer(&member, reason),
        };
        let before = member.bytes.load(Ordering::Relaxed);
        let lost = if shared.options.streams <= 1 {
            stream(&shared, &member, &link).await
        } else {
            all_streams(&shared, &member, &link).await
        };
        let Some(why) = lost else { return };
        if let Link::Lan(_) = link {
            member.peer.lan_is_off(why).await;
            continue;
        }
        if member.bytes.load(Ordering::Relaxed) == before {
            return shared.drop_peer(&member, Reason::Lost(why));
        }
    }
}

/// Works through several streams, and through further connections to a fast peer; returns why a link was
/// lost, if one was.
async fn all_streams(shared: &Arc<Shared>, member: &Arc<Member>, link: &Link) -> Option<String> {
    let mut streams = JoinSet::new();
    let add = |streams: &mut JoinSet<_>, link: &Link| {
        for _ in 0..shared.options.streams {
            let (shared, member, link) = (Arc::clone(shared), Arc::clone(member), link.clone());
            streams.spawn(async move { stream(&shared, &member, &link).await });
        }
    };
    add(&mut streams, link);
    let mut lost = None;
    let mut connections = 1;
    while !streams.is_empty() {
        tokio::select! {
            ended = streams.join_next() => if let Some(Ok(Some(why))) = ended {
                lost.get_or_insert(why);
            },
            () = outgrown(member, shared.options.fast, connections), if matches!(link, Link::Quic(_)) => {
                connections += 1;
                let more = member.peer.connection(connections - 1, shared.options.connect);
                match more.await {
                    Ok(more) => add(&mut streams, &Link::Quic(more)),
                    Err(reason) => tracing::debug!(%reason, "no further connection"),
                }
            }
        }
    }
    lost
}

/// Waits until a peer is too fast for so many connections; for ever, when it has as many as it may.
async fn outgrown(member: &Member, fast: u64, connections: usize) {
    if connections >= CONNECTIONS_PER_PEER_MAX {
        return std::future::pending().await;
    }
    loop {
        let before = member.bytes.load(Ordering::Relaxed);
        sleep(GROWTH_TIME).await;
        let rate = (member.bytes.load(Ordering::Relaxed) - before) / GROWTH_TIME.as_secs();
        if rate > fast.saturating_mul(connections as u64) {
            return;
        }
    }
}

/// Waits while more urgent fetches run, or this one is paused.
async fn turn(shared: &Shared) {
    if let Some(lanes) = shared
        .options
        .lanes
        .as_ref()
        .filter(|_| !shared.options.urgent)
    {
        lanes.free().await;
    }
    if let Some(paused) = &shared.options.paused {
        let mut paused = paused.clone();
        // Whoever could go on is gone: nothing is paused any more.
        paused.wait_for(|paused| !*paused).await.ok();
    }
}

/// One of the streams to a peer: takes units until there are none. Returns why the connection was lost, if it was.
async fn stream(shared: &Arc<Shared>, member: &Member, link: &Link) -> Option<String> {
    let mut stalls = 0;
    let index = member.index;
    loop {
        turn(shared).await;
        let changed = shared.board.changed();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let unit = match shared.board.take(index, Instant::now()) {
            Take::Unit(unit) => unit,
            Take::Wait => {
                tokio::select! {
                    () = changed => continue,
                    () = sleep(LOOK) => continue,
                    why = link.closed() => return Some(why),
                }
            }
            Take::Stop => return None,
        };
        member.requests.fetch_add(1, Ordering::Relaxed);
        let mut work = Work {
            shared,
            member,
            unit: &unit,
            moved: false,
        };
        let end = match shared.streams.acquire().await {
            Ok(_permit) => work.run(link).await,
            Err(_) => End::Complete,
        };
        let moved = work.moved;
        let want = unit.want;
        if !matches!(end, End::Complete) {
            let peer = member.peer.id().fmt_short();
            tracing::debug!(%peer, ?end, moved, "a request was not answered in full");
        }
        match &end {
            End::Complete => stalls = 0,
            End::Absent(part) => shared.board.lacks(index, want, unit.parts[*part].chunk),
            End::Reset(part) => {
                let part = &unit.parts[*part];
                if unit.parts.len() > 1 {
                    // A reset takes away what was under way: which part is missing shows only alone.
                    shared.board.ask_alone(index, want, part.chunk);
                } else if !moved {
                    shared.board.lacks(index, want, part.chunk);
                }
            }
            End::Stalled => {
                stalls = if moved { 1 } else { stalls + 1 };
                if stalls >= STALLS_MAX {
                    shared.drop_peer(member, Reason::Stalled(shared.options.stall));
                }
            }
            // The only peer may be as slow as it likes.
            End::Slow if shared.board.has_others(index) => {
                shared.drop_peer(member, Reason::Slow(SLOW_BYTES_PER_SECOND));
            }
            End::Slow | End::GivenAway | End::Lost(_) => {}
            End::Lied(hash) => {
                shared.options.lies.fetch_add(1, Ordering::Relaxed);
                shared.drop_peer(member, Reason::Lied(*hash));
                member.peer.disconnect(b"wrong bytes").await;
            }
            End::Sink(_) => {}
        }
        if let End::Sink(error) = end {
            let mut kept = shared
                .sink_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            kept.get_or_insert(error);
            drop(kept);
            shared.board.stop();
            return None;
        }
        shared.board.release(unit.id);
        if let End::Lost(why) = end {
            return Some(why);
        }
    }
}

/// The work on one unit.
struct Work<'a> {
    shared: &'a Arc<Shared>,
    member: &'a Member,
    unit: &'a Unit,
    /// Whether any verified byte came.
    moved: bool,
}

/// Why a stream gave fewer bytes than were expected.
enum Cut {
    Finished,
    Reset,
    Stalled,
    Slow,
    GivenAway,
    Lost(String),
}

impl Work<'_> {
    async fn run(&mut self, link: &Link) -> End {
        let parts = &self.unit.parts;
        let ask = parts
            .iter()
            .map(|part| (u64::from(part.chunk) + 1, &part.selection));
        let root = self.shared.wants[self.unit.want].seq;
        let request = BlobRequest::Get {
            root,
            ranges: RangesSeq::of_selections(ask),
        };
        let asked = timeout(self.shared.options.stall, link.ask(&request)).await;
        let mut reader = match asked {
            Ok(Ok(reader)) => reader,
            Ok(Err(why)) => return End::Lost(why),
            Err(_) => return End::Stalled,
        };
        let end = self.receive(&mut reader).await;
        // Where the answer goes on, nobody needs it any more.
        let stop = reader.stop(matches!(end, End::Complete));
        timeout(self.shared.options.stall, stop).await.ok();
        end
    }

    async fn receive(&mut self, reader: &mut Reader) -> End {
        let blob = |part: &super::board::Part| Blob {
            hash: part.hash,
            selection: part.selection.clone(),
        };
        let blobs: Arc<[Blob]> = self.unit.parts.iter().map(blob).collect();
        let mut planner = Planner::new(Arc::clone(&blobs));
        let mut target = SinkTarget {
            shared: Arc::clone(self.shared),
            want: self.unit.want,
            chunks: self.unit.parts.iter().map(|part| part.chunk).collect(),
            reached: None,
            bytes: 0,
        };
        let mut decoder = Decoder::new(blobs);
        let mut wire = Vec::new();
        let mut spare = Vec::new();
        let mut ahead = self
            .next(reader, &mut planner, std::mem::take(&mut wire))
            .await;
        loop {
            let Some((plan, bytes, cut)) = ahead else {
                return End::Complete;
            };
            let verify = move || {
                let mut bytes = bytes;
                let outcome = decoder.decode(&plan, &mut bytes, &mut target);
                (decoder, target, bytes, outcome)
            };
            let quick = self.is_quick();
            // One part is verified while the next one is read.
            let verify = async move {
                if quick {
                    Ok(verify())
                } else {
                    tokio::task::spawn_blocking(verify).await
                }
            };
            let reading = async {
                match cut {
                    Some(cut) => Err(cut),
                    None => Ok(self
                        .next(reader, &mut planner, std::mem::take(&mut spare))
                        .await),
                }
            };
            let (verified, read) = tokio::join!(verify, reading);
            let (got, mut back, outcome);
            match verified {
                Ok(verified) => (got, back, spare, outcome) = verified,
                Err(error) => return End::Sink(io::Error::other(error)),
            }
            decoder = got;
            let missing = self.note(&mut back);
            target = back;
            let ran_out = match outcome {
                Ok(ran_out) => ran_out,
                Err(Fault::Wrong { blob }) => return End::Lied(self.unit.parts[blob].hash),
                Err(Fault::Sink(error)) => return End::Sink(error),
            };
            if !missing {
                return End::Complete;
            }
            ahead = match read {
                Ok(next) => next,
                Err(cut) => {
                    let part = ran_out.unwrap_or_default();
                    return match cut {
                        Cut::Finished => End::Absent(part),
                        Cut::Reset => End::Reset(part),
                        Cut::Stalled => End::Stalled,
                        Cut::Slow => End::Slow,
                        Cut::GivenAway => End::GivenAway,
                        Cut::Lost(why) => End::Lost(why),
                    };
                }
            };
        }
    }

    /// Whether bytes may be verified and stored where they are received.
    fn is_quick(&self) -> bool {
        !self.shared.wants[self.unit.want].sink.may_wait()
    }

    /// Reads the next part of the answer into `buffer`; none when it is complete.
    async fn next(
        &self,
        reader: &mut Reader,
        planner: &mut Planner,
        mut buffer: Vec<u8>,
    ) -> Option<(Plan, Vec<u8>, Option<Cut>)> {
        let rates = [
            self.shared.rate.as_ref(),
            self.shared.options.shared_rate.as_deref(),
        ];
        let step = rates.iter().flatten().map(|rate| rate.step()).min();
        let most = if self.is_quick() {
            PLAN_QUICK_BYTES
        } else {
            PLAN_BYTES
        };
        let plan = planner.plan(step.unwrap_or(most).min(most))?;
        for rate in rates.iter().flatten() {
            rate.pass(plan.bytes).await;
        }
        buffer.resize(plan.bytes, 0);
        let mut filled = 0;
        let mut since = Instant::now();
        let cut = loop {
            if filled == buffer.len() {
                break None;
            }
            let read = timeout(
                self.shared.options.stall,
                reader.read(&mut buffer[filled..]),
            );
            let read = if filled == 0 && !self.moved {
                tokio::select! {
                    biased;
                    read = read => read,
                    () = self.given_away() => break Some(Cut::GivenAway),
                }
            } else {
                read.await
            };
            match read {
                Ok(Ok(read)) => filled += read,
                Ok(Err(Ended::Finished)) => break Some(Cut::Finished),
                Ok(Err(Ended::Reset)) => break Some(Cut::Reset),
                Ok(Err(Ended::Lost(why))) => break Some(Cut::Lost(why)),
                // Who has told us to wait is not late.
                Err(_) if self.shared.board.is_choked(self.member.index) => since = Instant::now(),
                Err(_) => break Some(Cut::Stalled),
            }
            let due = since
                .elapsed()
                .as_secs()
                .saturating_mul(SLOW_BYTES_PER_SECOND);
            if since.elapsed() > self.shared.options.stall && (filled as u64) < due {
                break Some(Cut::Slow);
            }
        };
        buffer.truncate(filled);
        Some((plan, buffer, cut))
    }

    /// Waits until the unit is better let go.
    async fn given_away(&self) {
        let board = &self.shared.board;
        loop {
            let changed = board.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if board.is_given_away(self.unit.id, Instant::now()) {
                return;
            }
            changed.await;
        }
    }

    /// Counts what was verified; whether something of the unit is still missing.
    fn note(&mut self, target: &mut SinkTarget) -> bool {
        let bytes = std::mem::take(&mut target.bytes);
        let Some((part, leaf)) = target.reached.take() else {
            return true;
        };
        self.moved = true;
        let (member, board, now) = (self.member, &self.shared.board, Instant::now());
        member.bytes.fetch_add(bytes, Ordering::Relaxed);
        board.received(member.index, bytes, now);
        self.shared.progress.received(member.peer.id(), bytes);
        board.progress(self.unit.id, part, leaf, now)
    }
}

/// Hands verified bytes of a unit's parts to the want's sink.
struct SinkTarget {
    shared: Arc<Shared>,
    want: usize,
    chunks: Vec<u32>,
    /// The part and the leaf behind the last bytes that were stored.
    reached: Option<(usize, u64)>,
    bytes: u64,
}

impl Target for SinkTarget {
    fn piece(
        &mut self,
        blob: usize,
        offset: u64,
        data: &[u8],
        parents: &[Parent],
    ) -> io::Result<()> {
        let alive = self
            .shared
            .alive
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if !*alive {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let start = u32::try_from(offset).map_err(io::Error::other)?;
        self.shared.wants[self.want]
            .sink
            .store(self.chunks[blob], start, data, parents)?;
        let end = offset + data.len() as u64;
        self.reached = Some((blob, end.div_ceil(LEAF_BYTES)));
        self.bytes += data.len() as u64;
        Ok(())
    }
}
