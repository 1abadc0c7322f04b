//! Fetches documents (trees, chunk lists, manifests) whole and verified, by hash.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    ChunkHash,
    piece::Parent,
    sync::{
        decode::{Blob, Decoder, Planner, Target},
        limits::{DOCUMENTS_PER_REQUEST_MAX, PLAN_BYTES},
        request::{BlobRequest, RangesSeq},
        selection::Selection,
    },
};

use super::{
    FetchOptions, Peer, Reason,
    link::{Ended, Link, Reader},
};

/// Why a document is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// Peers answered, but none of them has it.
    #[error("no peer has document {hash}")]
    NoPeerHasIt {
        /// The document.
        hash: ChunkHash,
    },
    /// Peers say that it is longer than it may be.
    #[error("document {hash} has {size} bytes, {limit} are permitted")]
    TooLong {
        /// The document.
        hash: ChunkHash,
        /// What a peer says.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// Every peer failed.
    #[error("every peer failed before it sent document {hash}: {}", text(.reasons))]
    AllPeersFailed {
        /// The document.
        hash: ChunkHash,
        /// Why each failed.
        reasons: Vec<Reason>,
    },
}

fn text(reasons: &[Reason]) -> String {
    let list: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    if list.is_empty() {
        "there is none".to_owned()
    } else {
        list.join("; ")
    }
}

/// Fetches documents of at most `limit` bytes each, from the first peer that has each.
///
/// # Errors
/// When a document is missing and nobody is left to ask.
pub async fn fetch_documents(
    peers: &[Peer],
    hashes: &[ChunkHash],
    limit: u64,
    options: &FetchOptions,
) -> Result<Vec<Bytes>, DocumentError> {
    let mut found: HashMap<ChunkHash, Bytes> = HashMap::new();
    let (mut reasons, mut too_long, mut answered) = (Vec::new(), None, false);
    for peer in peers {
        let mut missing: Vec<ChunkHash> = hashes
            .iter()
            .filter(|hash| !found.contains_key(*hash))
            .copied()
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let (mut at, mut most) = (0, DOCUMENTS_PER_REQUEST_MAX);
        while at < missing.len() {
            let end = missing.len().min(at + most);
            let asked = &missing[at..end];
            let (count, stop) = ask(peer, asked, limit, options, &mut found).await;
            at += count;
            answered |= !matches!(stop, Some(Stop::Failed(_))) || count > 0;
            match stop {
                None => most = (most * 2).min(DOCUMENTS_PER_REQUEST_MAX),
                // That one is passed by; the peer may have those behind it.
                Some(Stop::Absent) => at += 1,
                // iroh-blobs resets the stream where it lacks a blob, and with it goes what was under way: only
                // a document that is asked for alone is known to be lacking.
                Some(Stop::Reset) if asked.len() == 1 => at += 1,
                Some(Stop::Reset) => most = ((asked.len() - count) / 2).max(1),
                Some(Stop::TooLong(size)) => {
                    too_long.get_or_insert((missing[at], size));
                    at += 1;
                }
                Some(Stop::Failed(reason)) => {
                    reasons.push(reason);
                    break;
                }
            }
        }
    }
    let document = |hash: &ChunkHash| match found.get(hash) {
        Some(bytes) => Ok(bytes.clone()),
        None => Err(match too_long {
            Some((long, size)) if long == *hash => DocumentError::TooLong {
                hash: *hash,
                size,
                limit,
            },
            _ if answered => DocumentError::NoPeerHasIt { hash: *hash },
            _ => DocumentError::AllPeersFailed {
                hash: *hash,
                reasons: reasons.clone(),
            },
        }),
    };
    hashes.iter().map(document).collect()
}

enum Stop {
    /// The answer ended in front of the next document.
    Absent,
    /// The answer was given up, maybe with documents that were sent and had not arrived.
    Reset,
    TooLong(u64),
    Failed(Reason),
}

/// Asks one peer for documents; how many came in order, and what stopped it before the last.
async fn ask(
    peer: &Peer,
    hashes: &[ChunkHash],
    limit: u64,
    options: &FetchOptions,
    found: &mut HashMap<ChunkHash, Bytes>,
) -> (usize, Option<Stop>) {
    let link = match peer.connect(options.connect).await {
        Ok(connection) => Link::Quic(connection),
        Err(reason) => return (0, Some(Stop::Failed(reason))),
    };
    let whole = Selection::all(u64::MAX >> 1);
    let ranges = (0..hashes.len() as u64).map(|number| (number, &whole));
    let ranges = RangesSeq::of_selections(ranges);
    let request = BlobRequest::GetMany {
        hashes: hashes.to_vec(),
        ranges,
    };
    let stalled = || Stop::Failed(Reason::Stalled(options.stall));
    let mut reader = match timeout(options.stall, link.ask(&request)).await {
        Ok(Ok(reader)) => reader,
        Ok(Err(why)) => return (0, Some(Stop::Failed(Reason::Lost(why)))),
        Err(_) => return (0, Some(stalled())),
    };
    for (count, hash) in hashes.iter().enumerate() {
        match document(&mut reader, *hash, limit, options).await {
            Ok(bytes) => {
                found.insert(*hash, bytes);
            }
            Err(stop) => {
                if let Stop::Failed(Reason::Lied(_)) = stop {
                    options.lies.fetch_add(1, Ordering::Relaxed);
                    peer.disconnect(b"wrong bytes").await;
                }
                return (count, Some(stop));
            }
        }
    }
    (hashes.len(), None)
}

async fn document(
    reader: &mut Reader,
    hash: ChunkHash,
    limit: u64,
    options: &FetchOptions,
) -> Result<Bytes, Stop> {
    let mut header = [0; 8];
    read(reader, &mut header, options).await?;
    let size = u64::from_le_bytes(header);
    if size > limit {
        return Err(Stop::TooLong(size));
    }
    let blobs: Arc<[Blob]> = [Blob {
        hash,
        selection: Selection::all(size),
    }]
    .into();
    let mut planner = Planner::new(Arc::clone(&blobs));
    let (mut decoder, mut target) = (Decoder::new(blobs), Collect(Vec::new()));
    let mut first = true;
    while let Some(plan) = planner.plan(PLAN_BYTES) {
        let mut wire = vec![0; plan.bytes];
        let start = if std::mem::take(&mut first) {
            header.len()
        } else {
            0
        };
        wire[..start].copy_from_slice(&header[..start]);
        read(reader, &mut wire[start..], options).await?;
        let verify = tokio::task::spawn_blocking(move || {
            let outcome = decoder.decode(&plan, &mut wire, &mut target);
            (decoder, target, outcome)
        });
        let outcome;
        (decoder, target, outcome) = verify
            .await
            .map_err(|error| Stop::Failed(Reason::Lost(error.to_string())))?;
        outcome.map_err(|_| Stop::Failed(Reason::Lied(hash)))?;
    }
    Ok(target.0.into())
}

async fn read(reader: &mut Reader, out: &mut [u8], options: &FetchOptions) -> Result<(), Stop> {
    match timeout(options.stall, reader.read_exact(out)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Ended::Finished)) => Err(Stop::Absent),
        Ok(Err(Ended::Reset)) => Err(Stop::Reset),
        Ok(Err(Ended::Lost(why))) => Err(Stop::Failed(Reason::Lost(why))),
        Err(_) => Err(Stop::Failed(Reason::Stalled(options.stall))),
    }
}

/// Takes the pieces of one document, which come in order.
struct Collect(Vec<u8>);

impl Target for Collect {
    fn piece(&mut self, _: usize, _: u64, data: &[u8], _: &[Parent]) -> io::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }
}
