//! Figures about the gateway in the text form of Prometheus (version 0.0.4).

use std::{
    collections::BTreeMap,
    fmt::{Display, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use lode_node::{
    command::Status, fetch::Figures, origin::Figures as OriginFigures, read::ReadFigures,
};
use lode_store::recent::Usage;

/// Counts of one route, method and class of status.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
    time_us: AtomicU64,
}

/// What is counted, by (route, method, status).
type Key = (&'static str, &'static str, u16);

/// The gateway's own counts.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<BTreeMap<Key, Arc<Counters>>>,
    in_flight: Arc<AtomicI64>,
    connections: Arc<AtomicI64>,
    refused: AtomicU64,
}

/// Counts one thing while it lives.
#[derive(Debug)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    fn raise(count: &Arc<AtomicI64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counters {
    /// Counts bytes of a body as they are sent.
    pub fn add_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts a request until its answer's head is ready.
    pub fn request(&self) -> Gauge {
        Gauge::raise(&self.in_flight)
    }

    /// Counts an open connection.
    pub fn connection(&self) -> Gauge {
        Gauge::raise(&self.connections)
    }

    /// Counts a request that the guard turned away.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer, and gives where to count its bytes.
    pub fn answered(
        &self,
        route: &'static str,
        method: &'static str,
        status: u16,
        time: Duration,
    ) -> Arc<Counters> {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = Arc::clone(all.entry((route, method, status)).or_default());
        drop(all);
        counters.requests.fetch_add(1, Ordering::Relaxed);
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        counters.time_us.fetch_add(time_us, Ordering::Relaxed);
        counters
    }

    /// Writes the counts.
    pub fn write(&self, page: &mut Page) {
        let all = self
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let label = |(route, method, status): &Key| {
            format!(
                "{{route=\"{}\",method=\"{method}\",status=\"{status}\"}}",
                escape(route)
            )
        };
        page.family("lode_http_requests_total", "counter", "Requests answered.");
        for (key, counters) in &all {
            page.value(&label(key), counters.requests.load(Ordering::Relaxed));
        }
        page.family(
            "lode_http_response_bytes_total",
            "counter",
            "Bytes of bodies sent.",
        );
        for (key, counters) in &all {
            page.value(&label(key), counters.bytes.load(Ordering::Relaxed));
        }
        let help = "Time from a request's head to its answer's head.";
        page.family("lode_http_answer_seconds_total", "counter", help);
        for (key, counters) in &all {
            let time_us = counters.time_us.load(Ordering::Relaxed);
            page.value(&label(key), seconds(time_us));
        }
        let help = "Requests turned away because of their host or origin.";
        page.family("lode_http_refused_total", "counter", help);
        page.value("", self.refused.load(Ordering::Relaxed));
        page.family(
            "lode_http_requests_in_flight",
            "gauge",
            "Requests without an answer yet.",
        );
        page.value("", self.in_flight.load(Ordering::Relaxed));
        page.family("lode_http_connections", "gauge", "Open connections.");
        page.value("", self.connections.load(Ordering::Relaxed));
    }
}

/// Writes what a node says of itself. Sums over peers: their number must not make that of series.
pub fn write_status(page: &mut Page, status: &Status) {
    page.family("lode_info", "gauge", "The program that runs.");
    page.value(&format!("{{version=\"{}\"}}", escape(&status.program)), 1);
    page.gauge(
        "lode_uptime_seconds",
        "Seconds since start.",
        status.uptime_seconds,
    );
    page.gauge("lode_models", "Models of the home.", status.models);
    page.gauge("lode_versions", "Versions kept.", status.versions);
    page.gauge("lode_chunks", "Chunks held.", status.chunks);
    page.gauge(
        "lode_disk_used_bytes",
        "Allocated bytes of the home.",
        status.disk_used,
    );
    page.gauge(
        "lode_disk_outside_bytes",
        "Bytes in files that the user owns.",
        status.disk_outside,
    );
    page.gauge(
        "lode_disk_free_bytes",
        "Free bytes of the file system.",
        status.disk_free,
    );
    if let Some(max) = status.disk_max {
        page.gauge("lode_disk_max_bytes", "Bytes that the home may take.", max);
    }
    let connected = status.peers.iter().filter(|peer| peer.connected).count();
    page.gauge("lode_peers", "Peers known.", status.peers.len());
    page.gauge(
        "lode_peers_connected",
        "Peers with an open connection.",
        connected,
    );
    let received: u64 = status.peers.iter().map(|peer| peer.received).sum();
    page.gauge(
        "lode_peers_received_bytes",
        "Bytes received from the peers known.",
        received,
    );
    let sent: u64 = status.peers.iter().map(|peer| peer.sent).sum();
    page.gauge(
        "lode_peers_sent_bytes",
        "Bytes sent to the peers known.",
        sent,
    );
    page.gauge("lode_jobs", "Commands under way.", status.jobs.len());
}

/// Writes what was asked of other hubs.
pub fn write_origins(page: &mut Page, figures: &OriginFigures) {
    page.counter(
        "lode_upstream_requests_total",
        "Requests sent to other hubs.",
        figures.requests,
    );
    page.counter(
        "lode_upstream_bytes_total",
        "Bytes that other hubs sent.",
        figures.bytes,
    );
    page.counter(
        "lode_upstream_peer_bytes_total",
        "Bytes of other hubs' files that peers sent instead.",
        figures.from_peers,
    );
    page.counter(
        "lode_upstream_files_total",
        "Files of other hubs whose hash held.",
        figures.files,
    );
    page.counter(
        "lode_upstream_wrong_total",
        "Files of other hubs whose hash did not hold.",
        figures.wrong,
    );
}

/// Figures that come from several parts of the node, of one moment.
#[derive(Debug)]
pub struct Moment {
    /// What was fetched from peers; nothing where there are none.
    pub fetched: Option<Figures>,
    /// What came from other hubs; nothing where none is asked.
    pub origins: Option<OriginFigures>,
    /// What reading the home took.
    pub read: ReadFigures,
    /// Whether it was known from before what an address names.
    pub addresses: Usage,
    /// Bodies that wait for room, and the bytes of it that are taken.
    pub bodies: (u64, u64),
}

/// Writes where bytes came from, what was still known, what was wrong, and what waits.
pub fn write_moment(page: &mut Page, moment: &Moment) {
    let (read, work) = (&moment.read, &moment.read.work);
    let fetched = moment.fetched.unwrap_or_default();
    let origins = moment.origins.unwrap_or_default();
    let help = "Bytes by where they came from: disk is files of the home and of users, as far as \
                they were read; peers, verified ones for readers; upstream, what other hubs sent; \
                made, those of variants.";
    page.family("lode_read_bytes_total", "counter", help);
    page.value("{from=\"disk\"}", read.disk_bytes);
    page.value("{from=\"peers\"}", fetched.bytes);
    page.value("{from=\"upstream\"}", origins.bytes);
    page.value("{from=\"made\"}", work.bytes);
    let mut caches = read.caches.clone();
    caches.push(("addresses", moment.addresses));
    caches.push(("fetched", fetched.memory));
    page.family(
        "lode_cache_hits_total",
        "counter",
        "Times that something was in memory.",
    );
    for (name, usage) in &caches {
        page.value(&format!("{{cache=\"{name}\"}}"), usage.hits);
    }
    page.family(
        "lode_cache_misses_total",
        "counter",
        "Times that it was not.",
    );
    for (name, usage) in &caches {
        page.value(&format!("{{cache=\"{name}\"}}"), usage.misses);
    }
    let help =
        "Bytes that were not what they must be: places of chunks on disk, peers that sent them.";
    page.family("lode_verify_failures_total", "counter", help);
    page.value("{from=\"disk\"}", read.wrong);
    page.value("{from=\"peers\"}", fetched.lies);
    page.value("{from=\"upstream\"}", origins.wrong);
    page.family(
        "lode_variant_seconds_total",
        "counter",
        "Time that making bytes of variants took.",
    );
    page.value("", seconds(work.time_us));
    page.gauge(
        "lode_variant_makers",
        "Readers for whom something is made now.",
        work.makers,
    );
    page.family(
        "lode_queue_depth",
        "gauge",
        "What waits for its turn, by for what.",
    );
    for (queue, depth) in [
        ("bodies", moment.bodies.0),
        ("fetches", fetched.waiting),
        ("keeping", fetched.keeping),
        ("searches", fetched.lookups_waiting),
        ("variants", work.waiting),
    ] {
        page.value(&format!("{{queue=\"{queue}\"}}"), depth);
    }
    page.gauge(
        "lode_http_body_room_bytes",
        "Memory that bodies on their way have taken.",
        moment.bodies.1,
    );
}

/// Writes what was fetched from peers for readers.
pub fn write_fetched(page: &mut Page, figures: &Figures) {
    page.counter(
        "lode_fetch_requests_total",
        "Fetches of ranges that readers wanted and the home did not hold.",
        figures.requests,
    );
    page.counter(
        "lode_fetch_failed_total",
        "Of those fetches, the ones that did not bring all they should.",
        figures.failed,
    );
    page.counter(
        "lode_fetch_bytes_total",
        "Verified bytes that came by those fetches.",
        figures.bytes,
    );
    page.counter(
        "lode_fetch_lookups_total",
        "Searches among peers for models and chunks that are not here.",
        figures.lookups,
    );
    page.gauge(
        "lode_fetch_under_way_bytes",
        "Bytes that peers were asked for and that are not all here yet.",
        figures.under_way,
    );
    page.gauge(
        "lode_fetch_waiting",
        "Readers that wait for bytes from peers.",
        figures.waiting,
    );
    page.gauge(
        "lode_fetch_cached_bytes",
        "Fetched bytes in memory.",
        figures.cached,
    );
}

/// A page of figures.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

impl Page {
    /// Starts a family of figures.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a figure to the family, with its labels in braces or without.
    pub fn value(&mut self, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }

    /// A family of one figure.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.value("", value);
    }

    /// A family of one count that only grows.
    pub fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.value("", value);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }
}

fn seconds(time_us: u64) -> String {
    format!("{}.{:06}", time_us / 1_000_000, time_us % 1_000_000)
}

/// Escapes the value of a label.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use lode_node::command::PeerRow;

    #[test]
    fn figures_of_the_node_are_sums() {
        let peer = |connected| PeerRow {
            node: "n".to_owned(),
            addresses: Vec::new(),
            connected,
            path: None,
            received: 10,
            rate_received: 0,
            rate_sent: 0,
            dropped: None,
            sent: 1,
        };
        let status = Status {
            home: "/home".to_owned(),
            program: "0.1.0".to_owned(),
            node: None,
            listen: Vec::new(),
            http: None,
            uptime_seconds: 5,
            peers: vec![peer(true), peer(false)],
            jobs: Vec::new(),
            rate_received: 0,
            rate_sent: 0,
            models: 2,
            versions: 3,
            chunks: 4,
            disk_used: 5,
            disk_outside: 6,
            disk_max: None,
            disk_free: 7,
        };
        let mut page = Page::default();
        write_status(&mut page, &status);
        let text = page.into_text();
        for line in [
            "lode_info{version=\"0.1.0\"} 1",
            "lode_disk_used_bytes 5",
            "lode_peers 2",
            "lode_peers_connected 1",
            "lode_peers_received_bytes 20",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} in:\n{text}"
            );
        }
        assert!(!text.contains("lode_disk_max_bytes"));
    }

    #[test]
    fn what_came_from_where_what_was_known_and_what_waits_are_figures() {
        let folder = tempfile::tempdir().unwrap();
        let home = crate::published::Published::new(folder.path());
        let mut origins = OriginFigures::default();
        (origins.bytes, origins.wrong) = (7, 1);
        let moment = Moment {
            fetched: None,
            origins: Some(origins),
            read: lode_node::read::Reads::new(home.store.clone()).figures(),
            addresses: Usage { hits: 3, misses: 4 },
            bodies: (5, 6),
        };
        let mut page = Page::default();
        write_moment(&mut page, &moment);
        let text = page.into_text();
        for line in [
            "lode_read_bytes_total{from=\"peers\"} 0",
            "lode_read_bytes_total{from=\"upstream\"} 7",
            "lode_verify_failures_total{from=\"upstream\"} 1",
            "lode_cache_hits_total{cache=\"addresses\"} 3",
            "lode_cache_misses_total{cache=\"addresses\"} 4",
            "lode_verify_failures_total{from=\"disk\"} 0",
            "lode_queue_depth{queue=\"bodies\"} 5",
            "lode_http_body_room_bytes 6",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} in:\n{text}"
            );
        }
    }

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        let time = Duration::from_micros(1_500_000);
        metrics.answered("/a/{b}", "GET", 200, time).add_bytes(7);
        metrics.answered("/a/{b}", "GET", 200, time).add_bytes(5);
        let gauge = metrics.connection();
        let mut page = Page::default();
        metrics.write(&mut page);
        let text = page.into_text();
        let label = "{route=\"/a/{b}\",method=\"GET\",status=\"200\"}";
        for line in [
            format!("lode_http_requests_total{label} 2"),
            format!("lode_http_response_bytes_total{label} 12"),
            format!("lode_http_answer_seconds_total{label} 3.000000"),
            "lode_http_connections 1".to_owned(),
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} in:\n{text}"
            );
        }
        drop(gauge);
        assert_eq!(metrics.connections.load(Ordering::Relaxed), 0);
    }
}
