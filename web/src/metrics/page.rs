//! Series in the order in which they are put. The text format is the `prometheus` crate's: it escapes labels and help, and
//! unlike newer ones it does not add `_total` to the names of counters, which must stay as clients know them.

use pgherd_types::Times;
use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// A label beside those that every series has.
pub type Label<'a> = (&'static str, &'a str);

/// See the module.
pub struct Page {
    labels: Vec<LabelPair>,
    families: Vec<MetricFamily>,
}

impl Page {
    /// Every series has these two labels.
    pub fn new(scope: &str, name: &str) -> Self {
        Self { labels: vec![pair("scope", scope), pair("name", name)], families: Vec::new() }
    }

    /// A value that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauges(name, help, [(vec![], value)]);
    }
    /// One that is true or not.
    pub fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, f64::from(u8::from(value)));
    }
    /// Several, told apart by labels; without any the series is left out.
    pub fn gauges<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Vec<Label<'a>>, f64)>) {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = self.metric(&labels);
            metric.set_gauge(gauge);
            metric
        });
        let metrics = metrics.collect();
        self.put(name, help, MetricType::GAUGE, metrics);
    }
    /// A value that only grows.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let mut counter = Counter::default();
        counter.set_value(value as f64);
        let mut metric = self.metric(&[]);
        metric.set_counter(counter);
        self.put(name, help, MetricType::COUNTER, vec![metric]);
    }
    /// How long things take, told apart by labels.
    pub fn times(&mut self, name: &str, help: &str, values: &[(Vec<Label<'_>>, &Times)]) {
        let metrics = values.iter().map(|(labels, times)| {
            let mut metric = self.metric(labels);
            metric.set_histogram(histogram(times));
            metric
        });
        let metrics = metrics.collect();
        self.put(name, help, MetricType::HISTOGRAM, metrics);
    }

    /// All of it.
    pub fn text(&self) -> Result<String, String> {
        TextEncoder::new().encode_to_string(&self.families).map_err(|e| format!("the metrics cannot be written: {e}"))
    }

    fn metric(&self, labels: &[Label<'_>]) -> Metric {
        let more = labels.iter().map(|(name, value)| pair(name, value));
        Metric::from_label(self.labels.iter().cloned().chain(more).collect())
    }

    fn put(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn histogram(times: &Times) -> Histogram {
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(times.cumulative().map(bucket).collect());
    histogram.set_sample_count(times.total());
    histogram.set_sample_sum(times.sum().as_secs_f64());
    histogram
}
