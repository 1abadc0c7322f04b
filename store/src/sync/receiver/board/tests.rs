#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init
)]
//! Whatever peers do, every wanted leaf is fetched, or is named as missing.

use proptest::prelude::*;

use super::*;
use crate::sync::limits::LEAF_BYTES;

fn part(want: usize, chunk: u32, size: u64) -> Part {
    let hash = ChunkHash::of(&[want as u8, chunk as u8]);
    Part {
        want,
        chunk,
        hash,
        selection: Selection::all(size),
    }
}

fn board(parts: Vec<Part>, peers: usize) -> Board {
    Board::new(parts, (0..peers).map(|_| None).collect(), 1)
}

fn unit(board: &Board, peer: usize) -> Unit {
    match board.take(peer) {
        Take::Unit(unit) => unit,
        other => panic!("no unit: {other:?}"),
    }
}

fn complete(board: &Board, unit: &Unit) {
    let last = unit.parts.len() - 1;
    let leaf = unit.parts[last].selection.runs().last().unwrap().end;
    board.progress(unit.id, last, leaf);
    board.release(unit.id);
}

#[test]
fn a_unit_has_chunks_of_one_want_in_order_and_about_its_share() {
    let parts = (0..40)
        .map(|chunk| part(0, chunk, 16 << 20))
        .chain([part(1, 0, 5)])
        .collect();
    let board = board(parts, 2);
    let first = unit(&board, 0);
    let bytes: u64 = first.parts.iter().map(|part| part.selection.bytes()).sum();
    assert_eq!(bytes, REQUEST_PAYLOAD_BYTES_MAX);
    assert_eq!(
        first
            .parts
            .iter()
            .map(|part| part.chunk)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    let second = unit(&board, 1);
    assert_eq!(second.parts[0].chunk, 2);
}

#[test]
fn the_end_is_cut_finer_so_that_peers_end_together() {
    let board = board(vec![part(0, 0, 16 << 20)], 2);
    let first = unit(&board, 0);
    assert_eq!(first.parts[0].selection.bytes(), 4 << 20);
    let second = unit(&board, 1);
    assert_eq!(second.parts[0].selection.runs(), &[4096..7168]);
}

#[test]
fn what_a_peer_left_goes_to_another_and_what_it_sent_is_kept() {
    let board = board((0..3).map(|chunk| part(0, chunk, 1 << 20)).collect(), 2);
    let first = unit(&board, 0);
    assert_eq!(first.parts.len(), 1);
    board.progress(first.id, 0, 512);
    board.drop_peer(0, Reason::Lost("gone".to_owned()));
    board.release(first.id);
    assert!(matches!(board.take(0), Take::Stop));
    let again = unit(&board, 1);
    assert_eq!(again.parts[0].selection.runs(), &[512..1024]);
    complete(&board, &again);
    assert!(board.outcome().is_none());
    complete(&board, &unit(&board, 1));
    assert!(matches!(board.outcome(), Some(Outcome::Done)));
}

#[test]
fn an_idle_peer_takes_over_what_a_slow_one_holds_up() {
    let board = board(vec![part(0, 0, 1 << 20)], 3);
    let slow = unit(&board, 0);
    board.progress(slow.id, 0, 256);
    let copy = unit(&board, 1);
    assert_eq!(copy.parts[0].selection.runs(), &[256..1024]);
    assert!(matches!(board.take(2), Take::Wait), "two are enough");
    complete(&board, &copy);
    assert!(matches!(board.outcome(), Some(Outcome::Done)));
    assert!(!board.progress(slow.id, 0, 300), "the slow one may stop");
}

#[test]
fn a_chunk_that_nobody_has_is_named_when_all_else_is_done() {
    let board = board((0..2).map(|chunk| part(0, chunk, 1 << 20)).collect(), 1);
    let first = unit(&board, 0);
    board.lacks(0, 0, 0);
    board.release(first.id);
    let second = unit(&board, 0);
    assert_eq!(second.parts[0].chunk, 1);
    complete(&board, &second);
    let Some(Outcome::Missing(missing)) = board.outcome() else {
        panic!()
    };
    assert_eq!(
        (missing.chunk, missing.bytes, missing.lacked),
        (ChunkHash::of(&[0, 0]), 1 << 20, true)
    );
}

#[test]
fn without_peers_nothing_is_lacked_but_all_is_missing() {
    let none = board(vec![part(0, 0, 5)], 0);
    let Some(Outcome::Missing(missing)) = none.outcome() else {
        panic!()
    };
    assert!(!missing.lacked);
    assert!(matches!(
        board(Vec::new(), 0).outcome(),
        Some(Outcome::Done)
    ));
}

struct Only(Vec<ChunkHash>);

impl Holdings for Only {
    fn holds(&self, hash: &ChunkHash) -> bool {
        self.0.contains(hash)
    }
}

#[test]
fn the_rarest_chunk_comes_first_and_is_asked_of_its_holder() {
    let parts: Vec<Part> = (0..3).map(|chunk| part(0, chunk, 1 << 20)).collect();
    let rare = Arc::new(Only(vec![parts[2].hash]));
    let common = Arc::new(Only(parts[..2].iter().map(|part| part.hash).collect()));
    let holdings: Vec<Option<Arc<dyn Holdings>>> =
        vec![Some(rare), Some(common.clone()), Some(common)];
    let board = Board::new(parts, holdings, 1);
    assert_eq!(unit(&board, 0).parts[0].chunk, 2);
    assert_eq!(unit(&board, 1).parts[0].chunk, 0);
}

#[derive(Debug, Clone)]
enum Act {
    Finish,
    Progress(u64),
    Lack,
    Alone,
    Drop,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let act = prop_oneof![
        6 => Just(Act::Finish),
        4 => (0u64..3000).prop_map(Act::Progress),
        1 => Just(Act::Lack),
        1 => Just(Act::Alone),
        1 => Just(Act::Drop),
    ];
    prop::collection::vec((0usize..4, act), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn nothing_is_lost(sizes in prop::collection::vec(1u64..4_000_000, 1..12), acts in acts()) {
        let parts: Vec<Part> =
            sizes.iter().enumerate().map(|(at, size)| part(at / 5, at as u32 % 5, *size)).collect();
        let total: u64 = sizes.iter().map(|size| size.div_ceil(LEAF_BYTES)).sum();
        let board = board(parts, 4);
        let mut got: HashSet<(usize, u32, u64)> = HashSet::new();
        let mut held: Vec<Option<Unit>> = (0..4).map(|_| None).collect();
        // Afterwards the last peer, which never drops, finishes alone.
        let end = (0..200).map(|_| (3, Act::Finish));
        for (peer, act) in acts.into_iter().chain(end) {
            if board.outcome().is_some() {
                break;
            }
            if held[peer].is_none()
                && let Take::Unit(unit) = board.take(peer)
            {
                held[peer] = Some(unit);
            }
            let Some(unit) = held[peer].take() else {
                // Only copies of what others hold are left: they hand it back.
                for other in &mut held {
                    if let Some(unit) = other.take() {
                        board.release(unit.id);
                    }
                }
                continue;
            };
            let mut arrive = |upto: usize, leaf: u64| {
                for (index, part) in unit.parts.iter().enumerate().take(upto + 1) {
                    for run in part.selection.runs() {
                        let end = if index == upto { run.end.min(leaf) } else { run.end };
                        got.extend((run.start..end).map(|leaf| (part.want, part.chunk, leaf)));
                    }
                }
                board.progress(unit.id, upto, leaf)
            };
            match act {
                Act::Finish => { arrive(unit.parts.len() - 1, u64::MAX); }
                Act::Progress(leaf) if arrive(0, leaf) => {
                    held[peer] = Some(unit);
                    continue;
                }
                Act::Lack if peer != 3 => board.lacks(peer, unit.want, unit.parts[0].chunk),
                Act::Alone => board.ask_alone(peer, unit.want, unit.parts[0].chunk),
                Act::Drop if peer != 3 => {
                    board.drop_peer(peer, Reason::Lost(String::new()));
                }
                _ => {}
            }
            board.release(unit.id);
        }
        prop_assert!(matches!(board.outcome(), Some(Outcome::Done)), "{:?}", board.outcome());
        prop_assert_eq!(got.len() as u64, total);
    }
}
