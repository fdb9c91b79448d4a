//! Flags of pushing, as texts: [`crate::otlp::setting`] parses them, and decides between flag, variable and file.

use crate::otlp::setting::Flags;
use clap::Args;

/// Flags of pushing by OTLP.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Push by OTLP (docs/otlp.md has the variables and keys that say the same)")]
pub struct OtlpArgs {
    /// Where metrics go: `prometheus` (scrapes), `otlp`, `console` (a line of JSON for each push) or `none`, separated by
    /// commas [default: prometheus, and otlp where an endpoint is given]
    #[arg(long, value_name = "LIST")]
    exporters: Option<String>,
    /// The receiver: `http://HOST:4318`, to which `/v1/metrics` is added, or `http://HOST:4317` for gRPC
    #[arg(long = "otlp.endpoint", value_name = "URL")]
    endpoint: Option<String>,
    /// The same as the whole URL for metrics, taken as it is
    #[arg(long = "otlp.metrics-endpoint", value_name = "URL", conflicts_with = "endpoint")]
    metrics_endpoint: Option<String>,
    /// `http/protobuf` or `grpc` [default: http/protobuf]
    #[arg(long = "otlp.protocol", value_name = "NAME")]
    protocol: Option<String>,
    /// Headers of each request: `NAME=VALUE`, separated by commas. Others on this host can read flags; a variable or a file
    /// is better for a secret
    #[arg(long = "otlp.headers", value_name = "LIST")]
    headers: Option<String>,
    /// How long one request may take [default: 10s]
    #[arg(long = "otlp.timeout", value_name = "TIME")]
    timeout: Option<String>,
    /// `gzip` or `none` [default: gzip]
    #[arg(long = "otlp.compression", value_name = "NAME")]
    compression: Option<String>,
    /// Authorities that sign the receiver's certificate (PEM) [default: those that the host trusts]
    #[arg(long = "otlp.certificate", value_name = "FILE")]
    certificate: Option<String>,
    /// This host's certificate (PEM), for receivers that ask for one
    #[arg(long = "otlp.client-certificate", value_name = "FILE")]
    client_certificate: Option<String>,
    /// Its key (PEM)
    #[arg(long = "otlp.client-key", value_name = "FILE")]
    client_key: Option<String>,
    /// Whether gRPC to an endpoint without a scheme is without TLS [default: false]
    #[arg(long = "otlp.insecure", value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    insecure: Option<String>,
    /// How often metrics are pushed [default: 1m]
    #[arg(long = "otlp.interval", value_name = "TIME")]
    interval: Option<String>,
    /// How long a push may take, its repetitions included [default: 30s]
    #[arg(long = "otlp.push-timeout", value_name = "TIME")]
    push_timeout: Option<String>,
    /// `cumulative` (totals), `delta` (differences) or `lowmemory` (differences of histograms only) [default: cumulative]
    #[arg(long = "otlp.temporality", value_name = "NAME")]
    temporality: Option<String>,
    /// Form of histograms with exponential buckets: `base2_exponential_bucket_histogram`, as they were counted, or
    /// `explicit_bucket_histogram` [default: as they were counted]
    #[arg(long = "otlp.histograms", value_name = "NAME")]
    histograms: Option<String>,
    /// Keys of attributes: `prometheus`, the labels of /metrics, or `semconv`, the names of OpenTelemetry's conventions where
    /// there are any [default: prometheus]
    #[arg(long = "otlp.attributes", value_name = "NAME")]
    attributes: Option<String>,
    /// Attributes of the resource: `KEY=VALUE`, separated by commas
    #[arg(long = "otlp.resource", value_name = "LIST")]
    resource: Option<String>,
    /// `service.name` of the resource [default: tapster]
    #[arg(long = "otlp.service-name", value_name = "NAME")]
    service_name: Option<String>,
}

impl OtlpArgs {
    /// The texts by the names of their flags.
    pub(super) fn flags(&self) -> Flags {
        let flag = |name, text: &Option<String>| (name, text.clone());
        vec![
            flag("--exporters", &self.exporters),
            flag("--otlp.endpoint", &self.endpoint),
            flag("--otlp.metrics-endpoint", &self.metrics_endpoint),
            flag("--otlp.protocol", &self.protocol),
            flag("--otlp.headers", &self.headers),
            flag("--otlp.timeout", &self.timeout),
            flag("--otlp.compression", &self.compression),
            flag("--otlp.certificate", &self.certificate),
            flag("--otlp.client-certificate", &self.client_certificate),
            flag("--otlp.client-key", &self.client_key),
            flag("--otlp.insecure", &self.insecure),
            flag("--otlp.interval", &self.interval),
            flag("--otlp.push-timeout", &self.push_timeout),
            flag("--otlp.temporality", &self.temporality),
            flag("--otlp.histograms", &self.histograms),
            flag("--otlp.attributes", &self.attributes),
            flag("--otlp.resource", &self.resource),
            flag("--otlp.service-name", &self.service_name),
        ]
    }
}
