#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::single_range_in_vec_init
)]
//! Whatever peers do, every wanted leaf is fetched, or is named as missing.

use proptest::prelude::*;

use std::{sync::Arc, time::Duration};

use super::*;
use crate::sync::{
    limits::{LEAF_BYTES, REQUEST_FIRST_BYTES, REQUEST_PAYLOAD_BYTES_MAX},
    receiver::Have,
};

fn part(want: usize, chunk: u32, size: u64) -> Part {
    let hash = ChunkHash::of(&[want as u8, chunk as u8]);
    Part {
        want,
        chunk,
        hash,
        selection: Selection::all(size),
        passed_on: true,
    }
}

fn board(parts: Vec<Part>, peers: usize) -> Board {
    with(parts, (0..peers).map(|_| None))
}

/// A board that nobody else joins, with peers of which this is known.
fn with(parts: Vec<Part>, peers: impl IntoIterator<Item = Option<Arc<Have>>>) -> Board {
    let board = Board::new(parts, 1, SEED);
    for have in peers {
        board.join(have.map(|have| have.known()));
    }
    board.close();
    board
}

/// Chance in these tests.
const SEED: u64 = 7;

fn take(board: &Board, peer: usize) -> Take {
    board.take(peer, Instant::now())
}

fn unit(board: &Board, peer: usize) -> Unit {
    match take(board, peer) {
        Take::Unit(unit) => unit,
        other => panic!("no unit: {other:?}"),
    }
}

fn progress(board: &Board, unit: &Unit, part: usize, leaf: u64) -> bool {
    board.progress(unit.id, part, leaf, Instant::now())
}

fn complete(board: &Board, unit: &Unit) {
    let last = unit.parts.len() - 1;
    let leaf = unit.parts[last].selection.runs().last().unwrap().end;
    progress(board, unit, last, leaf);
    board.release(unit.id);
}

fn bytes(unit: &Unit) -> u64 {
    unit.parts.iter().map(|part| part.selection.bytes()).sum()
}

#[test]
fn a_unit_has_chunks_of_one_want_in_order_and_grows_with_the_speed() {
    let parts = (0..40)
        .map(|chunk| part(0, chunk, 16 << 20))
        .chain([part(1, 0, 5)])
        .collect();
    let board = board(parts, 2);
    let first = unit(&board, 0);
    assert_eq!(bytes(&first), REQUEST_FIRST_BYTES);
    complete(&board, &first);
    // In no time: as fast as can be.
    let second = unit(&board, 0);
    assert_eq!(bytes(&second), REQUEST_PAYLOAD_BYTES_MAX);
    let chunks: Vec<u32> = second.parts.iter().map(|part| part.chunk).collect();
    assert_eq!(chunks, [0, 1, 2], "from where the first ended");
    assert_eq!(bytes(&unit(&board, 1)), REQUEST_FIRST_BYTES);
}

#[test]
fn the_end_is_cut_finer_so_that_peers_end_together() {
    let board = board(vec![part(0, 0, 6 << 20)], 2);
    let first = unit(&board, 0);
    assert_eq!(first.parts[0].selection.bytes(), 2 << 20);
    let second = unit(&board, 1);
    assert_eq!(second.parts[0].selection.runs(), &[2048..3072]);
}

#[test]
fn what_a_peer_left_goes_to_another_and_what_it_sent_is_kept() {
    let board = board((0..3).map(|chunk| part(0, chunk, 1 << 20)).collect(), 2);
    let first = unit(&board, 0);
    assert_eq!(first.parts.len(), 1);
    progress(&board, &first, 0, 512);
    board.drop_peer(0, Reason::Lost("gone".to_owned()));
    board.release(first.id);
    assert!(matches!(take(&board, 0), Take::Stop));
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
    progress(&board, &slow, 0, 256);
    assert!(matches!(take(&board, 1), Take::Wait), "it is not late");
    let later = Instant::now() + Duration::from_secs(5);
    let Take::Unit(copy) = board.take(1, later) else {
        panic!("nothing is taken over")
    };
    assert_eq!(copy.parts[0].selection.runs(), &[256..1024]);
    assert!(matches!(board.take(2, later), Take::Wait), "two are enough");
    complete(&board, &copy);
    assert!(matches!(board.outcome(), Some(Outcome::Done)));
    assert!(!progress(&board, &slow, 0, 300), "the slow one may stop");
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

#[test]
fn the_rarest_chunk_comes_first_and_is_asked_of_its_holder() {
    let parts: Vec<Part> = (0..3).map(|chunk| part(0, chunk, 1 << 20)).collect();
    let every = || Have::chunks((0..3).map(|chunk| ChunkHash::of(&[0, chunk])));
    let common = || Have::chunks((0..2).map(|chunk| ChunkHash::of(&[0, chunk])));
    let board = with(parts, [Some(every()), Some(common()), Some(common())]);
    assert_eq!(unit(&board, 0).parts[0].chunk, 2);
    assert!(unit(&board, 1).parts[0].chunk < 2);
}

#[test]
fn pieces_of_a_chunk_are_asked_of_who_has_them_and_come_as_they_are_gained() {
    let hash = ChunkHash::of(&[0, 0]);
    let board = with(
        vec![part(0, 0, 4 << 20)],
        [Some(Have::none()), Some(Have::none())],
    );
    let news = |pieces| News {
        gained: HashMap::from([(hash, pieces)]),
        live: true,
        ..News::default()
    };
    // Nobody has anything, and nobody may still come by it.
    assert!(matches!(board.outcome(), Some(Outcome::Missing(_))));
    let board = Board::new(vec![part(0, 0, 4 << 20)], 1, SEED);
    let one = board.join(Some(news(0b0010)));
    let other = board.join(Some(news(0b1000)));
    board.close();
    assert!(board.outcome().is_none(), "both may come by more");
    let first = unit(&board, one);
    assert_eq!(first.parts[0].selection.runs(), &[1024..2048]);
    assert!(matches!(take(&board, one), Take::Wait));
    let second = unit(&board, other);
    assert_eq!(second.parts[0].selection.runs(), &[3072..4096]);
    complete(&board, &first);
    complete(&board, &second);
    board.news(one, news(0b0101));
    complete(&board, &unit(&board, one));
    complete(&board, &unit(&board, one));
    assert!(matches!(board.outcome(), Some(Outcome::Done)));
}

#[test]
fn what_a_seeder_gave_to_others_is_left_to_them_while_they_send() {
    let board = Board::new(
        (0..4).map(|chunk| part(0, chunk, 1 << 20)).collect(),
        1,
        SEED,
    );
    let seeder = board.join(Some(Have::all().known()));
    let leecher = board.join(Some(News {
        live: true,
        ..News::default()
    }));
    board.close();
    let given = |chunk: u8| News {
        given: HashMap::from([(ChunkHash::of(&[0, chunk]), 1)]),
        live: true,
        ..News::default()
    };
    for chunk in [0, 1, 3] {
        board.news(seeder, given(chunk));
    }
    let first = unit(&board, seeder);
    assert_eq!(first.parts[0].chunk, 2, "the one that nobody has yet");
    complete(&board, &first);
    assert!(
        matches!(take(&board, seeder), Take::Wait),
        "the others will have it soon"
    );
    let gained = News {
        gained: HashMap::from([(ChunkHash::of(&[0, 0]), 1)]),
        live: true,
        ..News::default()
    };
    board.news(leecher, gained);
    let from_leecher = unit(&board, leecher);
    assert_eq!(from_leecher.parts[0].chunk, 0);
    // What does not come through in time, the seeder gives twice.
    let later = Instant::now() + Duration::from_secs(60);
    assert!(matches!(board.take(seeder, later), Take::Unit(_)));
}

#[test]
fn what_nobody_passes_on_is_asked_of_a_seeder_that_gave_it_to_others() {
    let mut parts: Vec<Part> = (0..2).map(|chunk| part(0, chunk, 1 << 20)).collect();
    parts[1].passed_on = false;
    let board = Board::new(parts, 1, SEED);
    let seeder = board.join(Some(Have::all().known()));
    board.join(Some(News {
        live: true,
        ..News::default()
    }));
    board.close();
    let given = (0..2)
        .map(|chunk| (ChunkHash::of(&[0, chunk]), 1))
        .collect();
    board.news(
        seeder,
        News {
            given,
            live: true,
            ..News::default()
        },
    );
    let first = unit(&board, seeder);
    assert_eq!(first.parts[0].chunk, 1, "it would not come from others");
    complete(&board, &first);
    assert!(matches!(take(&board, seeder), Take::Wait));
}

#[test]
fn a_peer_that_lets_us_wait_is_not_asked() {
    let board = board(vec![part(0, 0, 1 << 20)], 1);
    board.news(
        0,
        News {
            choked: true,
            ..News::default()
        },
    );
    assert!(matches!(take(&board, 0), Take::Wait));
    board.news(0, News::default());
    assert!(matches!(take(&board, 0), Take::Unit(_)));
}

#[test]
fn peers_of_a_swarm_begin_in_different_places() {
    let parts = || {
        (0..64)
            .map(|chunk| part(0, chunk, 1 << 20))
            .collect::<Vec<_>>()
    };
    let firsts: HashSet<u32> = (0..16)
        .map(|seed| {
            let board = Board::new(parts(), 1, seed);
            let seeder = board.join(Some(Have::all().known()));
            board.join(Some(Have::none().known()));
            unit(&board, seeder).parts[0].chunk
        })
        .collect();
    assert!(firsts.len() > 8, "{firsts:?}");
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
                && let Take::Unit(unit) = take(&board, peer)
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
                progress(&board, &unit, upto, leaf)
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
