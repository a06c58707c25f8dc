//! The page, in Prometheus' text exposition format 0.0.4.
//!
//! Written here and not by a library: the official one for Rust, `prometheus-client`, writes OpenMetrics, where a
//! counter's TYPE line lacks the `_total` of its samples, so that readers of 0.0.4, `promtool check metrics` among them,
//! see counters without a type; `prometheus` writes 0.0.4 and wants every value in a protobuf message first. What is
//! left to write is a line per sample.

use std::fmt::{self, Write};

use super::families::{Family, Kind};
use super::meter::{BOUNDS, Durations};

/// What an answer with a page says of it.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// A sample's value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value {
    /// Something counted.
    Count(u64),
    /// Something measured.
    Amount(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Count(count)
    }
}

impl From<f64> for Value {
    fn from(amount: f64) -> Self {
        Value::Amount(amount)
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Value::Count(u64::from(is_so))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Count(count) => count.fmt(f),
            Value::Amount(amount) => amount.fmt(f),
        }
    }
}

impl Page {
    /// An empty page with room for a small gateway's.
    pub fn new() -> Self {
        Self { text: String::with_capacity(32 * 1024) }
    }

    /// Begins a family. All its samples are to be put before the next one begins; it is announced without any as well.
    pub fn family(&mut self, family: &Family) -> Samples<'_> {
        let Family { name, help, kind } = family;
        let kind_word = kind.as_str();
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind_word}\n"));
        Samples { page: self, name, kind: *kind }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, family: &Family, value: impl Into<Value>) {
        self.family(family).put(&[], value);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn write(&mut self, arguments: fmt::Arguments<'_>) {
        self.text.write_fmt(arguments).expect("a string takes all that is written into it");
    }
}

/// The samples of one family.
#[derive(Debug)]
pub struct Samples<'p> {
    page: &'p mut Page,
    name: &'static str,
    kind: Kind,
}

/// Names and values. A name is letters and underscores, a value anything.
type Labels<'l> = [(&'static str, &'l str)];

impl Samples<'_> {
    /// Puts one sample. Its labels have to differ from those of the others.
    pub fn put(&mut self, labels: &Labels<'_>, value: impl Into<Value>) {
        debug_assert!(self.kind != Kind::Histogram, "{} takes durations", self.name);
        self.line("", labels, None, value.into());
    }

    /// Puts durations.
    pub fn durations(&mut self, labels: &Labels<'_>, durations: &Durations) {
        debug_assert!(self.kind == Kind::Histogram, "{} takes values", self.name);
        let ends = BOUNDS.iter().map(|&(seconds, _)| seconds).chain(["+Inf"]);
        let mut count = 0;
        for (end, bucket) in ends.zip(durations.buckets) {
            count += bucket;
            self.line("_bucket", labels, Some(end), Value::Count(count));
        }
        self.line("_sum", labels, None, Value::Amount(durations.nanos as f64 / 1e9));
        self.line("_count", labels, None, Value::Count(count));
    }

    fn line(&mut self, suffix: &str, labels: &Labels<'_>, end: Option<&str>, value: Value) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let mut before = '{';
        for (name, value) in labels.iter().copied().chain(end.map(|end| ("le", end))) {
            text.push(before);
            text.push_str(name);
            text.push_str("=\"");
            escape(text, value);
            text.push('"');
            before = ',';
        }
        text.push_str(if before == ',' { "} " } else { " " });
        self.page.write(format_args!("{value}\n"));
    }
}

/// Appends a label's value: the three characters that would end it or its line get a backslash.
fn escape(text: &mut String, value: &str) {
    let mut rest = value;
    while let Some(at) = rest.find(['\\', '"', '\n']) {
        text.push_str(&rest[..at]);
        text.push_str(match rest.as_bytes()[at] {
            b'\\' => r"\\",
            b'"' => r#"\""#,
            _ => r"\n",
        });
        rest = &rest[at + 1..];
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metrics::families;

    #[test]
    fn a_page_as_prometheus_describes_it() {
        let mut page = Page::new();
        let mut requests = page.family(&families::REQUESTS);
        requests.put(&[("service", "app"), ("code", "2xx")], 7_u64);
        requests.put(&[("service", "a\"b\\c\nd"), ("code", "none")], u64::MAX);
        page.single(&families::DURABLE, true);
        page.single(&families::PROCESS_CPU, 1.25);
        page.family(&families::TUNNELS);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            samples,
            [
                "# TYPE tidegate_requests_total counter",
                r#"tidegate_requests_total{service="app",code="2xx"} 7"#,
                r#"tidegate_requests_total{service="a\"b\\c\nd",code="none"} 18446744073709551615"#,
                "# TYPE tidegate_durable gauge",
                "tidegate_durable 1",
                "# TYPE process_cpu_seconds_total counter",
                "process_cpu_seconds_total 1.25",
                "# TYPE tidegate_tunnels gauge",
            ]
        );
        assert!(text.starts_with("# HELP tidegate_requests_total "), "{text}");
        assert!(text.ends_with('\n'), "the last line ends as well");
    }

    #[test]
    fn buckets_hold_what_the_smaller_ones_do() {
        let mut durations = Durations { nanos: 62_500_000_000, ..Durations::default() };
        (durations.buckets[0], durations.buckets[1], durations.buckets[BOUNDS.len()]) = (2, 1, 1);
        let mut page = Page::new();
        page.family(&families::REQUEST_DURATION).durations(&[("service", "app")], &durations);
        let text = page.into_text();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples.len(), BOUNDS.len() + 3);
        for (index, (seconds, _)) in BOUNDS.into_iter().enumerate() {
            let expected = format!(
                "tidegate_request_duration_seconds_bucket{{service=\"app\",le=\"{seconds}\"}} {}",
                if index == 0 { 2 } else { 3 }
            );
            assert_eq!(samples[index], expected);
        }
        assert_eq!(
            samples[BOUNDS.len()..],
            [
                r#"tidegate_request_duration_seconds_bucket{service="app",le="+Inf"} 4"#,
                r#"tidegate_request_duration_seconds_sum{service="app"} 62.5"#,
                r#"tidegate_request_duration_seconds_count{service="app"} 4"#,
            ]
        );
    }

    /// What a reader makes of an escaped value.
    fn read(escaped: &str) -> Option<String> {
        let mut chars = escaped.chars();
        let mut value = String::new();
        while let Some(char) = chars.next() {
            value.push(match char {
                '\\' => match chars.next()? {
                    '\\' => '\\',
                    '"' => '"',
                    'n' => '\n',
                    _ => return None,
                },
                '"' | '\n' => return None,
                char => char,
            });
        }
        Some(value)
    }

    proptest! {
        #[test]
        fn a_label_is_read_as_it_was(value in r#"([\\"\nn{},= ]|\PC){0,40}"#) {
            let mut escaped = String::new();
            escape(&mut escaped, &value);
            prop_assert_eq!(read(&escaped), Some(value));
        }

        #[test]
        fn an_amount_is_read_as_it_was(amount in proptest::num::f64::NORMAL | proptest::num::f64::ZERO) {
            prop_assert_eq!(Value::Amount(amount).to_string().parse::<f64>().unwrap().to_bits(), amount.to_bits());
        }
    }
}
