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
            page.value(
                &label(key),
                format!("{}.{:06}", time_us / 1_000_000, time_us % 1_000_000),
            );
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

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Escapes the value of a label.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

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
