//! How many requests a token or an address may make a second: token buckets without a table that grows.
//!
//! A bucket is one number: the time at which it is full again ("theoretical arrival time" of the generic
//! cell rate algorithm, ITU-T I.371). Addresses share a fixed array of buckets, each chosen by a hash
//! with a key of this process: two of them may meet in one bucket, nobody can choose which, and a million
//! addresses take no more memory than one. Time is the machine's since its start, which nobody sets.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue, RETRY_AFTER},
};
use lode_node::{
    command::FailureKind,
    tokens::{TokenId, limits::TOKENS_MAX},
};

use crate::{
    answer::Problem,
    guard::Http,
    limits::{ADDRESS_BUCKETS, BURST_SECONDS, WRONG_TOKEN_COST},
    policy::Policy,
    visitor::Counted,
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The buckets of a gateway.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    key: RandomState,
    addresses: Box<[AtomicU64]>,
    /// Of tokens that were used lately: no more than there can be tokens, and some that are gone.
    tokens: Mutex<HashMap<TokenId, u64>>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            key: RandomState::new(),
            addresses: (0..ADDRESS_BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            tokens: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request out of its bucket.
    ///
    /// # Errors
    /// 429, with the seconds after which there is room again.
    pub(crate) fn admit(
        &self,
        policy: &Policy,
        http: Http,
        counted: Counted<'_>,
    ) -> Result<(), Problem> {
        self.admit_at(policy, http, counted, self.since.elapsed())
    }

    fn admit_at(
        &self,
        policy: &Policy,
        http: Http,
        counted: Counted<'_>,
        now: Duration,
    ) -> Result<(), Problem> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let (rate, cost) = match counted {
            Counted::Not => return Ok(()),
            Counted::Token(_) => (policy.token_rate, 1),
            Counted::Address => (policy.anonymous_rate, 1),
            Counted::Wrong => (policy.anonymous_rate, WRONG_TOKEN_COST),
        };
        let Some(rate) = rate else {
            return Ok(());
        };
        let step = NANOS_PER_SECOND / u64::from(rate.max(1));
        let taken = match counted {
            Counted::Token(token) => self.take_of_token(token.id, now, step),
            _ => take(self.bucket(http.peer), now, step * cost),
        };
        taken.map_err(|wait| too_many(rate, wait))
    }

    fn bucket(&self, peer: IpAddr) -> &AtomicU64 {
        let hash = self.key.hash_one(network_of(peer));
        // Below the length of the array, which is a usize.
        #[allow(clippy::cast_possible_truncation)]
        let at = (hash % self.addresses.len() as u64) as usize;
        &self.addresses[at]
    }

    fn take_of_token(&self, id: TokenId, now: u64, step: u64) -> Result<(), u64> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= 2 * TOKENS_MAX && !tokens.contains_key(&id) {
            // A full bucket says no more than none.
            tokens.retain(|_, full| *full > now);
        }
        let full = tokens.entry(id).or_default();
        *full = after(*full, now, step)?;
        Ok(())
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// How much may be taken at once from a full bucket, as the time that it takes to fill.
const BURST_NANOS: u64 = BURST_SECONDS * NANOS_PER_SECOND;

/// When a bucket is full again after `step` was taken from it; or how long until there is so much in it.
fn after(full: u64, now: u64, step: u64) -> Result<u64, u64> {
    let next = full.max(now) + step;
    match next - now > BURST_NANOS {
        true => Err(next - now - BURST_NANOS),
        false => Ok(next),
    }
}

fn take(bucket: &AtomicU64, now: u64, step: u64) -> Result<(), u64> {
    let mut full = bucket.load(Ordering::Relaxed);
    loop {
        let next = after(full, now, step)?;
        match bucket.compare_exchange_weak(full, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return Ok(()),
            Err(other) => full = other,
        }
    }
}

/// What counts as one address: of IPv6, the network that a household or machine gets.
pub(crate) fn network_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(ip) => {
            let bits = ip.to_bits() & (u128::MAX << 64);
            IpAddr::V6(bits.into())
        }
        v4 => v4,
    }
}

fn too_many(rate: u32, wait: u64) -> Problem {
    let seconds = wait.div_ceil(NANOS_PER_SECOND).max(1);
    let text = |text: String| HeaderValue::try_from(text).expect("digits and signs are visible");
    let most = u64::from(rate) * BURST_SECONDS;
    let message = format!("more than {rate} requests a second");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, FailureKind::Refused, message)
        .advise(format!("wait {seconds} s"))
        .with(RETRY_AFTER, HeaderValue::from(seconds))
        .with(RATE_LIMIT, text(format!("\"requests\";r=0;t={seconds}")))
        .with(
            RATE_LIMIT_POLICY,
            text(format!("\"requests\";q={most};w={BURST_SECONDS}")),
        )
}

#[cfg(test)]
mod tests;
