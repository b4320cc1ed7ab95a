//! What one scrape answers.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::catalog::{Family, Kind};
use super::histogram::HistogramSnapshot;

/// Samples of this moment, by family.
#[derive(Default)]
pub struct Page {
    families: BTreeMap<&'static str, (&'static Family, Vec<Metric>)>,
}

impl Page {
    /// The `Content-Type` of [`Page::render`].
    pub const CONTENT_TYPE: &'static str = TEXT_FORMAT;

    /// An empty page.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample of a counter or gauge; `labels` are the values of the family's labels, in their order.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], value: f64) {
        let mut metric = Metric::from_label(pairs(family, labels));
        match family.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.push(family, metric);
    }

    /// Adds a whole number; above 2^53 the last digits are lost, as everywhere in Prometheus.
    pub fn count(&mut self, family: &'static Family, labels: &[&str], value: u64) {
        self.add(family, labels, value as f64);
    }

    /// Adds a sample only where there is one: what is not known is left out, not zero.
    pub fn maybe(&mut self, family: &'static Family, labels: &[&str], value: Option<f64>) {
        if let Some(value) = value {
            self.add(family, labels, value);
        }
    }

    /// Adds a distribution.
    pub fn distribution(&mut self, family: &'static Family, labels: &[&str], snapshot: &HistogramSnapshot) {
        let buckets = snapshot.buckets.iter().map(|(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        });
        let mut histogram = prometheus::proto::Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(snapshot.count);
        histogram.set_sample_sum(snapshot.sum);
        let mut metric = Metric::from_label(pairs(family, labels));
        metric.set_histogram(histogram);
        self.push(family, metric);
    }

    /// Everything in the text format, the figures of this process with it.
    pub fn render(self) -> String {
        let mut families: Vec<MetricFamily> = self.families.into_values().map(into_family).collect();
        families.extend(ProcessCollector::for_self().collect());
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    fn push(&mut self, family: &'static Family, metric: Metric) {
        self.families.entry(family.name).or_insert((family, Vec::new())).1.push(metric);
    }
}

fn pairs(family: &Family, values: &[&str]) -> Vec<LabelPair> {
    debug_assert_eq!(family.labels.len(), values.len(), "{} has the labels {:?}", family.name, family.labels);
    let pair = |(name, value): (&&str, &&str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    family.labels.iter().zip(values).map(pair).collect()
}

fn into_family((family, metrics): (&Family, Vec<Metric>)) -> MetricFamily {
    let mut out = MetricFamily::default();
    out.set_name(family.name.to_owned());
    out.set_help(family.help.to_owned());
    out.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    out.set_metric(metrics);
    out
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::super::histogram::Histogram;
    use super::*;

    #[test]
    fn a_page_has_help_type_and_escaped_labels() {
        let mut page = Page::new();
        page.count(&catalog::INGEST_DROPPED, &["a\"b\\c\nd"], 3);
        page.maybe(&catalog::CAMERA_BATTERY, &["56C1"], None);
        let joins = Histogram::with_bounds_ms([10]);
        joins.record(std::time::Duration::from_millis(5));
        page.distribution(&catalog::VIEWER_CONNECT, &[], &joins.snapshot());
        let text = page.render();
        let expected = "# HELP honeycast_ingest_dropped_packets_total Datagrams dropped on the camera ports, by reason\n\
                        # TYPE honeycast_ingest_dropped_packets_total counter\n\
                        honeycast_ingest_dropped_packets_total{reason=\"a\\\"b\\\\c\\nd\"} 3\n";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("honeycast_viewer_connect_seconds_bucket{le=\"0.01\"} 1\n"), "{text}");
        assert!(text.contains("honeycast_viewer_connect_seconds_bucket{le=\"+Inf\"} 1\n"), "{text}");
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        assert!(!text.contains("battery"), "{text}");
    }
}
