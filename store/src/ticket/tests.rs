#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::capability::Capability;
use crate::identity::{IdentityLog, create};
use crate::signature::SigningKey;

fn ticket() -> Ticket {
    Ticket {
        addrs: vec![PeerAddr {
            id: [7; 32],
            ip: vec![
                "192.0.2.1:4433".parse().unwrap(),
                "[2001:db8::1]:4433".parse().unwrap(),
            ],
            relay: vec!["https://relay.example/".into()],
        }],
        publisher: PublisherId::from_bytes([1; 32]),
        identity: RecordId::from_bytes([1; 32]),
        model: "tiny".into(),
        version: Some(VersionId::from_bytes([2; 32])),
        name: Some("tags/v1".into()),
        capability: None,
        alias: Some("acme".into()),
    }
}

fn private() -> Ticket {
    let keys = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let log = IdentityLog::start(create(&keys[0], &keys[1].public())).unwrap();
    let signed = Capability::make(&log, &[&keys[0]], "tiny", None, Some(9), 1).unwrap();
    Ticket {
        capability: Some(signed),
        publisher: log.publisher(),
        ..ticket()
    }
}

#[test]
fn a_ticket_is_one_word_and_comes_back() {
    for ticket in [ticket(), private()] {
        let text = ticket.to_text().unwrap();
        assert!(text.starts_with("lode1"));
        assert!(
            text.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        assert_eq!(text.parse::<Ticket>(), Ok(ticket.clone()));
        assert_eq!(
            format!("  {}\n", text.to_uppercase()).parse::<Ticket>(),
            Ok(ticket)
        );
    }
}

#[test]
fn a_ticket_cut_short_anywhere_says_so() {
    for text in [ticket(), private()].map(|ticket| ticket.to_text().unwrap()) {
        for len in 1..text.len() {
            let err = text[..len].parse::<Ticket>().unwrap_err();
            assert_eq!(
                err,
                TicketError::CutShort { found: len },
                "{len} of {}",
                text.len()
            );
            assert_eq!(err.kind(), ErrorKind::Usage);
            assert!(err.to_string().contains("copy it again"));
        }
    }
}

#[test]
fn what_is_not_a_ticket_is_refused_each_by_its_own_error() {
    let err = |text: &str| text.parse::<Ticket>().unwrap_err();
    let good = ticket().to_text().unwrap();
    assert!(matches!(err(""), TicketError::NotATicket { .. }));
    assert!(matches!(err("blobabc"), TicketError::NotATicket { .. }));
    assert!(matches!(err("é"), TicketError::NotATicket { .. }));
    assert!(matches!(err(&good[5..]), TicketError::NotATicket { .. }));
    assert_eq!(
        err(&format!("{}!", &good[..50])),
        TicketError::Character { found: '!', at: 50 }
    );
    assert_eq!(
        err(&format!("{} {}", &good[..50], &good[50..])),
        TicketError::Character { found: ' ', at: 50 }
    );
    assert!(matches!(
        err(&format!("lode1{}", "a".repeat(7000))),
        TicketError::TooLong { .. }
    ));
    assert_eq!(err(&format!("{good}aaaaaaaa")), TicketError::Damaged);
    // all bytes right, but of a later format
    let mut bytes = vec![2];
    bytes.extend(ticket().encode());
    bytes.extend(&blake3::hash(&bytes).as_bytes()[..4]);
    let later = data_encoding::BASE32_NOPAD.encode(&bytes);
    let newer = err(&format!("lode1{later}"));
    assert_eq!(newer, TicketError::NewerFormat { found: 2 });
    assert_eq!(newer.kind(), ErrorKind::Refused);
}

#[test]
fn a_ticket_that_a_reader_would_refuse_is_not_written() {
    let refused = |change: &dyn Fn(&mut Ticket)| {
        let mut ticket = ticket();
        change(&mut ticket);
        ticket.to_text().unwrap_err()
    };
    assert!(matches!(
        refused(&|t| t.model = "a/b".into()),
        TicketError::Name(_)
    ));
    assert!(matches!(
        refused(&|t| t.alias = Some("api".into())),
        TicketError::Name(_)
    ));
    assert!(matches!(
        refused(&|t| t.name = Some("v1".into())),
        TicketError::Ref(_)
    ));
    assert!(matches!(
        refused(&|t| t.addrs.clear()),
        TicketError::Document(_)
    ));
    refused(&|t| t.addrs[0].relay = vec!["a b".into()]);
    refused(&|t| t.addrs = vec![t.addrs[0].clone(); TICKET_PEERS_MAX + 1]);
    refused(&|t| t.addrs[0].ip = vec![t.addrs[0].ip[0]; TICKET_ADDRESSES_MAX + 1]);
    refused(&|t| t.addrs[0].relay = vec!["x".repeat(ADDRESS_BYTES_MAX + 1)]);
    refused(&|t| t.addrs[0].relay = vec!["x".repeat(ADDRESS_BYTES_MAX); 16]);
    let mut most = ticket();
    let bare = PeerAddr {
        id: [1; 32],
        ip: vec![],
        relay: vec![],
    };
    most.addrs = vec![bare.clone(); TICKET_PEERS_MAX];
    most.addrs[0].ip = vec![ticket().addrs[0].ip[0]; TICKET_ADDRESSES_MAX];
    most.addrs[0].relay = vec!["x".repeat(ADDRESS_BYTES_MAX)];
    assert_eq!(most.to_text().unwrap().parse::<Ticket>(), Ok(most));
}

#[test]
fn a_ticket_of_four_kibibytes_is_the_longest() {
    let with = |len: usize| {
        let mut ticket = ticket();
        ticket.addrs[0].relay = vec!["x".repeat(ADDRESS_BYTES_MAX); 14];
        // one more text, with a head of two bytes
        let rest = ticket.encode().len() + 5 + 2;
        ticket.addrs[0]
            .relay
            .push("x".repeat(len.checked_sub(rest).unwrap()));
        assert_eq!(ticket.encode().len() + 5, len);
        ticket.to_text().map(drop)
    };
    assert_eq!(with(TICKET_BYTES_MAX), Ok(()));
    assert!(matches!(
        with(TICKET_BYTES_MAX + 1),
        Err(TicketError::TooLong { .. })
    ));
}

proptest! {
    #[test]
    fn a_changed_character_is_found(at in any::<prop::sample::Index>(), to in "[a-z2-7]") {
        let good = ticket().to_text().unwrap();
        let at = 5 + at.index(good.len() - 5);
        let changed = format!("{}{to}{}", &good[..at], &good[at + 1..]);
        match changed.parse::<Ticket>() {
            // bits that are left over in the last character carry nothing
            Ok(read) => prop_assert_eq!(read, ticket()),
            Err(err) => prop_assert!(
                matches!(err, TicketError::Damaged | TicketError::CutShort { .. }),
                "{}", err
            ),
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "lode1[a-z2-7]{0,60}") {
        let _ = text.parse::<Ticket>();
    }
}
