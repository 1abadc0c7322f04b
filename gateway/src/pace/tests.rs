#![allow(clippy::unwrap_used)]
use super::*;

fn http(peer: IpAddr) -> Http {
    Http {
        peer,
        loopback: false,
        tls: false,
    }
}

fn v4(number: u32) -> IpAddr {
    IpAddr::V4(number.into())
}

/// How many requests in a row are admitted, at most `most`.
fn admitted(pace: &Pace, peer: IpAddr, counted: Counted<'_>, now: Duration, most: usize) -> usize {
    let policy = Policy::default();
    (0..most)
        .take_while(|_| pace.admit_at(&policy, http(peer), counted, now).is_ok())
        .count()
}

#[test]
fn an_address_gets_a_burst_and_then_its_rate() {
    let pace = Pace::new();
    let rate = Policy::default().anonymous_rate.unwrap() as usize;
    let burst = rate * usize::try_from(BURST_SECONDS).unwrap();
    let start = Duration::from_secs(1000);
    let ask = |now| admitted(&pace, v4(1), Counted::Address, now, usize::MAX);
    assert_eq!(ask(start), burst);
    assert_eq!(ask(start), 0);
    assert_eq!(ask(start + Duration::from_secs(1)), rate);
    assert_eq!(ask(start + Duration::from_secs(1_000_000)), burst);
    let others = admitted(&pace, v4(2), Counted::Address, start, usize::MAX);
    assert!(others == burst || pace.bucket(v4(1)).as_ptr() == pace.bucket(v4(2)).as_ptr());
}

#[test]
fn what_is_no_token_costs_more_than_none() {
    let pace = Pace::new();
    let policy = Policy::default();
    let burst = u64::from(policy.anonymous_rate.unwrap()) * BURST_SECONDS;
    let wrong = admitted(&pace, v4(1), Counted::Wrong, Duration::ZERO, usize::MAX);
    assert_eq!(wrong as u64, burst / WRONG_TOKEN_COST);
}

#[test]
fn the_owner_and_switched_off_limits_are_not_counted() {
    let pace = Pace::new();
    assert_eq!(
        admitted(&pace, v4(1), Counted::Not, Duration::ZERO, 100_000),
        100_000
    );
    let policy = Policy {
        anonymous_rate: None,
        ..Policy::default()
    };
    for _ in 0..100_000 {
        pace.admit_at(&policy, http(v4(1)), Counted::Address, Duration::ZERO)
            .unwrap();
    }
}

#[test]
fn who_is_refused_is_told_when_to_come_again() {
    let problem = too_many(100, 2 * NANOS_PER_SECOND + 1);
    assert_eq!(problem.status(), 429);
    let response = problem.into_response(crate::dialect::Dialect::Native);
    assert_eq!(response.headers()[RETRY_AFTER], "3");
    assert_eq!(response.headers()[RATE_LIMIT], "\"requests\";r=0;t=3");
    assert_eq!(
        response.headers()[RATE_LIMIT_POLICY],
        "\"requests\";q=1000;w=10"
    );
}

#[test]
fn a_hundred_thousand_addresses_take_no_more_memory_than_one() {
    let pace = Pace::new();
    let policy = Policy::default();
    for number in 0..100_000 {
        let _ = pace.admit_at(&policy, http(v4(number)), Counted::Address, Duration::ZERO);
    }
    assert_eq!(pace.addresses.len(), ADDRESS_BUCKETS);
    // One that comes later finds room: its bucket was used by few.
    let late = admitted(&pace, v4(200_000), Counted::Address, Duration::ZERO, 100);
    assert_eq!(late, 100);
}

#[test]
fn the_networks_of_ipv6_and_mapped_addresses_are_one_each() {
    let ip = |text: &str| network_of(text.parse().unwrap());
    assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
    assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
    assert_eq!(ip("::ffff:10.0.0.1"), ip("10.0.0.1"));
    assert_ne!(ip("10.0.0.1"), ip("10.0.0.2"));
}
