//! Tokens that were given and not yet presented, and strangers that presented none.
//!
//! A token is found by a hash of it under a key of this process, so that the time of a look-up says nothing
//! about tokens that exist. It is taken out when it is presented, whatever comes of that: none works twice.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use iroh::EndpointId;

use crate::{
    VersionId,
    sync::limits::{
        LAN_ADDRESSES_MAX, LAN_FAILURES_MAX, LAN_FAILURES_WINDOW, LAN_TOKEN_LIFETIME,
        LAN_TOKENS_MAX, LAN_TOKENS_PER_OFFER_MAX, LAN_TOKENS_PER_PEER_MAX,
    },
};

use super::wire::Token;

/// Who may have what over one TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admitted {
    pub(super) peer: EndpointId,
    pub(super) version: VersionId,
}

#[derive(Debug)]
struct Given {
    admitted: Admitted,
    /// Addresses from which it may be presented.
    from: Vec<IpAddr>,
    until: Instant,
}

/// The tokens of one node.
#[derive(Debug)]
pub(super) struct Tokens {
    key: [u8; 32],
    given: Mutex<HashMap<[u8; 32], Given>>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            key: rand::random(),
            given: Mutex::default(),
        }
    }

    fn place(&self, token: &Token) -> [u8; 32] {
        *blake3::keyed_hash(&self.key, token.as_bytes()).as_bytes()
    }

    /// Makes up to `count` tokens for a peer at one of `from`; fewer, or none, where bounds are reached.
    pub(super) fn give(
        &self,
        admitted: Admitted,
        from: &[IpAddr],
        count: usize,
        now: Instant,
    ) -> Vec<Token> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, token| token.until > now);
        let own = given
            .values()
            .filter(|token| token.admitted.peer == admitted.peer)
            .count();
        let count = count
            .min(LAN_TOKENS_PER_OFFER_MAX)
            .min(LAN_TOKENS_PER_PEER_MAX.saturating_sub(own))
            .min(LAN_TOKENS_MAX.saturating_sub(given.len()));
        let tokens: Vec<Token> = (0..count)
            .filter_map(|_| Token::from_slice(&rand::random::<[u8; 32]>()))
            .collect();
        for token in &tokens {
            let token_given = Given {
                admitted,
                from: from.to_vec(),
                until: now + LAN_TOKEN_LIFETIME,
            };
            given.insert(self.place(token), token_given);
        }
        tokens
    }

    /// Takes a token that is presented from `from`: nothing if it is unknown, used, late or another's.
    pub(super) fn take(&self, token: &Token, from: IpAddr, now: Instant) -> Option<Admitted> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let found = given.remove(&self.place(token))?;
        (found.until > now && found.from.contains(&from)).then_some(found.admitted)
    }
}

/// Connections by address that presented no good token, within a window. One counts until its token is
/// good, so that an address holds few of them open.
#[derive(Debug)]
pub(super) struct Failures(Mutex<Counted>);

#[derive(Debug)]
struct Counted {
    since: Instant,
    by_address: HashMap<IpAddr, u32>,
}

impl Failures {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Counted {
            since: now,
            by_address: HashMap::new(),
        }))
    }

    /// Counts a connection from `from`; whether it is listened to.
    pub(super) fn begin(&self, from: IpAddr, now: Instant) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(counted.since) >= LAN_FAILURES_WINDOW {
            counted.since = now;
            counted.by_address.clear();
        }
        let known = counted.by_address.contains_key(&from);
        if !known && counted.by_address.len() >= LAN_ADDRESSES_MAX {
            return false;
        }
        let failures = counted.by_address.entry(from).or_default();
        let permitted = *failures < LAN_FAILURES_MAX;
        *failures = failures.saturating_add(1);
        permitted
    }

    /// Takes back one connection from `from`: its token was good.
    pub(super) fn was_good(&self, from: IpAddr) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failures) = counted.by_address.get_mut(&from) {
            *failures = failures.saturating_sub(1);
            if *failures == 0 {
                counted.by_address.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use iroh::SecretKey;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 8));

    fn admitted() -> Admitted {
        Admitted {
            peer: SecretKey::generate().public(),
            version: VersionId::of(b"v"),
        }
    }

    #[test]
    fn a_token_works_once_from_its_address_and_in_time() {
        let (tokens, who, now) = (Tokens::new(), admitted(), Instant::now());
        let given = tokens.give(who, &[HERE], 4, now);
        assert_eq!(given.len(), 4);
        let last = now + LAN_TOKEN_LIFETIME - Duration::from_nanos(1);
        assert_eq!(tokens.take(&given[0], HERE, last), Some(who));
        assert_eq!(tokens.take(&given[0], HERE, now), None, "it is used");
        assert_eq!(tokens.take(&given[1], THERE, now), None, "it is another's");
        assert_eq!(tokens.take(&given[1], HERE, now), None, "and used by that");
        let late = now + LAN_TOKEN_LIFETIME;
        assert_eq!(tokens.take(&given[2], HERE, late), None, "it is late");
        let made_up = Token::from_slice(&[0; 32]).expect("it is as long");
        assert_eq!(tokens.take(&made_up, HERE, now), None);
        assert_eq!(tokens.take(&given[3], HERE, now), Some(who));
    }

    #[test]
    fn an_offer_a_peer_and_a_node_have_only_so_many_tokens() {
        let (tokens, who, now) = (Tokens::new(), admitted(), Instant::now());
        let mut own = 0;
        loop {
            let given = tokens.give(who, &[HERE], LAN_TOKENS_PER_OFFER_MAX + 1, now);
            assert!(given.len() <= LAN_TOKENS_PER_OFFER_MAX);
            own += given.len();
            if given.is_empty() {
                break;
            }
        }
        assert_eq!(own, LAN_TOKENS_PER_PEER_MAX);
        let mut all = own;
        while all < LAN_TOKENS_MAX {
            let given = tokens.give(admitted(), &[HERE], LAN_TOKENS_PER_OFFER_MAX, now);
            assert!(!given.is_empty(), "others have theirs");
            all += given.len();
        }
        assert!(tokens.give(admitted(), &[HERE], 1, now).is_empty());
        let later = now + LAN_TOKEN_LIFETIME;
        assert_eq!(
            tokens.give(who, &[HERE], 1, later).len(),
            1,
            "late ones make room"
        );
    }

    #[test]
    fn an_address_that_fails_too_often_waits_for_the_next_window() {
        let now = Instant::now();
        let failures = Failures::new(now);
        for _ in 0..10 * LAN_FAILURES_MAX {
            assert!(failures.begin(HERE, now), "good ones are no failures");
            failures.was_good(HERE);
        }
        for _ in 0..LAN_FAILURES_MAX {
            assert!(failures.begin(HERE, now));
        }
        assert!(!failures.begin(HERE, now));
        assert!(failures.begin(THERE, now), "others are heard");
        assert!(failures.begin(HERE, now + LAN_FAILURES_WINDOW));
    }

    #[test]
    fn failures_of_only_so_many_addresses_are_counted() {
        let now = Instant::now();
        let failures = Failures::new(now);
        for at in 0..u32::try_from(LAN_ADDRESSES_MAX).expect("it fits") {
            assert!(failures.begin(IpAddr::V4(Ipv4Addr::from_bits(at)), now));
        }
        assert!(!failures.begin(HERE, now), "a stranger too many");
        assert!(failures.begin(IpAddr::V4(Ipv4Addr::from_bits(0)), now));
        assert!(failures.begin(HERE, now + LAN_FAILURES_WINDOW));
    }
}
