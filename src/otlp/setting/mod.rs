//! Settings of pushes: from flags, from the variables that OpenTelemetry defines for every program, and from `otlp:` in a
//! file. If several give the same setting, the first of this order wins, for each setting by itself:
//!
//! 1. the flag;
//! 2. the variable for metrics, `OTEL_EXPORTER_OTLP_METRICS_…`;
//! 3. the variable for all signals, `OTEL_EXPORTER_OTLP_…`;
//! 4. the key in the file.
//!
//! An empty variable counts as not set, as in OpenTelemetry. A wrong value is an error that names its place,
//! and never becomes a default.

mod given;
mod parse;

pub use given::SettingError;
use given::{Given, SettingSource};
use parse::{headers, pairs};

use crate::otlp::client::Endpoint;
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};
use tapster_ebpf::probe::Otlp;

/// The transport of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2 with protobuf, port 4317 by custom.
    Grpc,
    /// HTTP with a body of protobuf, port 4318 by custom.
    Http,
}

impl Protocol {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
        }
    }
}

/// Whether points are totals or differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Since the beginning.
    Cumulative,
    /// Since the last accepted push.
    Delta,
    /// Histograms since the last accepted push, counters since the beginning.
    LowMemory,
}

/// The form in which histograms with exponential buckets are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histograms {
    /// As they were counted.
    Exponential,
    /// With the bounds of the classic form.
    Explicit,
}

/// The names of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeNames {
    /// The labels of `/metrics`.
    Prometheus,
    /// The names of OpenTelemetry's semantic conventions, where there are any.
    Semconv,
}

/// A destination of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsExporter {
    /// Scrapes of `/metrics`.
    Prometheus,
    /// Pushes by OTLP.
    Otlp,
    /// A line of OTLP's JSON on standard output for each push.
    Console,
}

const PROTOCOLS: [(&str, Protocol); 2] = [("grpc", Protocol::Grpc), ("http/protobuf", Protocol::Http)];
const TEMPORALITIES: [(&str, Temporality); 3] = [
    ("cumulative", Temporality::Cumulative),
    ("delta", Temporality::Delta),
    ("lowmemory", Temporality::LowMemory),
];
const HISTOGRAMS: [(&str, Histograms); 2] = [
    ("base2_exponential_bucket_histogram", Histograms::Exponential),
    ("explicit_bucket_histogram", Histograms::Explicit),
];
const NAMES: [(&str, AttributeNames); 2] =
    [("prometheus", AttributeNames::Prometheus), ("semconv", AttributeNames::Semconv)];
const COMPRESSIONS: [(&str, bool); 2] = [("gzip", true), ("none", false)];
const BOOLEANS: [(&str, bool); 2] = [("true", true), ("false", false)];
const EXPORTERS: [(&str, Option<MetricsExporter>); 6] = [
    ("prometheus", Some(MetricsExporter::Prometheus)),
    ("otlp", Some(MetricsExporter::Otlp)),
    ("console", Some(MetricsExporter::Console)),
    // An old name of the console exporter, and one for the form that it has here.
    ("logging", Some(MetricsExporter::Console)),
    ("otlp/stdout", Some(MetricsExporter::Console)),
    ("none", None),
];

/// The places where a setting can be given. The texts are what a user types.
#[derive(Clone, Copy, Debug)]
struct Setting {
    /// The key under `otlp:` in a file; `exporters` stands beside `otlp:`.
    key: &'static str,
    flag: &'static str,
    /// The first variable that is set counts.
    variables: &'static [&'static str],
}

const fn setting(key: &'static str, flag: &'static str, variables: &'static [&'static str]) -> Setting {
    Setting { key, flag, variables }
}

const EXPORTERS_SETTING: Setting = setting("exporters", "--exporters", &["OTEL_METRICS_EXPORTER"]);
const ENDPOINT: Setting = setting("endpoint", "--otlp.endpoint", &["OTEL_EXPORTER_OTLP_ENDPOINT"]);
const METRICS_ENDPOINT: Setting =
    setting("metrics_endpoint", "--otlp.metrics-endpoint", &["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"]);
const PROTOCOL: Setting = setting(
    "protocol",
    "--otlp.protocol",
    &["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"],
);
const HEADERS: Setting = setting(
    "headers",
    "--otlp.headers",
    &["OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"],
);
const TIMEOUT: Setting = setting(
    "timeout",
    "--otlp.timeout",
    &["OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"],
);
const COMPRESSION: Setting = setting(
    "compression",
    "--otlp.compression",
    &["OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"],
);
const CERTIFICATE: Setting = setting(
    "certificate",
    "--otlp.certificate",
    &["OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"],
);
const CLIENT_CERTIFICATE: Setting = setting(
    "client_certificate",
    "--otlp.client-certificate",
    &["OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"],
);
const CLIENT_KEY: Setting = setting(
    "client_key",
    "--otlp.client-key",
    &["OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"],
);
const INSECURE: Setting = setting(
    "insecure",
    "--otlp.insecure",
    &["OTEL_EXPORTER_OTLP_METRICS_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"],
);
const INTERVAL: Setting = setting("interval", "--otlp.interval", &["OTEL_METRIC_EXPORT_INTERVAL"]);
const PUSH_TIMEOUT: Setting = setting("push_timeout", "--otlp.push-timeout", &["OTEL_METRIC_EXPORT_TIMEOUT"]);
const TEMPORALITY: Setting =
    setting("temporality", "--otlp.temporality", &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"]);
const HISTOGRAM: Setting =
    setting("histograms", "--otlp.histograms", &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"]);
const ATTRIBUTES: Setting = setting("attributes", "--otlp.attributes", &[]);
const RESOURCE: Setting = setting("resource", "--otlp.resource", &["OTEL_RESOURCE_ATTRIBUTES"]);
const SERVICE_NAME: Setting = setting("service_name", "--otlp.service-name", &["OTEL_SERVICE_NAME"]);
const DISABLED: &str = "OTEL_SDK_DISABLED";
/// The proxy that is set for all programs of a host, and hosts that are reached without it; in upper and lower case.
const PROXY: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];
/// Texts of flags, by their names.
pub type Flags = Vec<(&'static str, Option<String>)>;

/// Everything that was given.
pub struct SettingSources<'a> {
    /// Flags that were given.
    pub flags: Flags,
    /// The environment: the text of a variable; `Err` where it is no UTF-8.
    pub variable: &'a dyn Fn(&str) -> Option<Result<String, ()>>,
    /// `otlp:` and `exporters:` of the file.
    pub file: Option<&'a Otlp>,
}

impl fmt::Debug for SettingSources<'_> {
    /// Leaves out texts, some of which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettingSources").finish_non_exhaustive()
    }
}

impl SettingSources<'_> {
    fn flag(&self, setting: Setting) -> Option<Given> {
        let (_, text) = self.flags.iter().find(|(flag, _)| *flag == setting.flag)?;
        Some(Given { text: text.clone()?, source: SettingSource::Flag(setting.flag) })
    }

    fn variable(&self, name: &'static str) -> Result<Option<Given>, SettingError> {
        let source = SettingSource::Variable(name);
        match (self.variable)(name) {
            Some(Ok(text)) if text.trim().is_empty() => Ok(None),
            Some(Ok(text)) => Ok(Some(Given { text, source })),
            Some(Err(())) => Err(SettingError::new(&source, "its text is not UTF-8".into(), None)),
            None => Ok(None),
        }
    }

    fn variables(&self, setting: Setting) -> Result<Option<Given>, SettingError> {
        for name in setting.variables {
            if let Some(given) = self.variable(name)? {
                return Ok(Some(given));
            }
        }
        Ok(None)
    }

    fn file(&self, setting: Setting) -> Option<Given> {
        let file = self.file?;
        let (key, text) = file.settings.iter().find(|(key, _)| *key == setting.key)?;
        let source = SettingSource::File(Arc::clone(&file.file), text.span.clone(), key);
        Some(Given { text: text.value.clone(), source })
    }

    fn get(&self, setting: Setting) -> Result<Option<Given>, SettingError> {
        if let Some(given) = self.flag(setting) {
            return Ok(Some(given));
        }
        Ok(self.variables(setting)?.or_else(|| self.file(setting)))
    }

    fn value<T>(
        &self,
        setting: Setting,
        default: T,
        read: impl Fn(&Given) -> Result<T, SettingError>,
    ) -> Result<T, SettingError> {
        self.get(setting)?.map_or(Ok(default), |given| read(&given))
    }
}

/// How metrics are pushed.
#[derive(Clone)]
pub struct PushSettings {
    /// The receiver.
    pub endpoint: Endpoint,
    /// The transport.
    pub protocol: Protocol,
    /// Headers of each request, some of which may be secret.
    pub headers: Vec<(String, String)>,
    /// Whether requests are compressed by gzip.
    pub gzip: bool,
    /// How long one request may take.
    pub timeout: Duration,
    /// Files of TLS.
    pub tls: TlsFiles,
    /// The proxy, if any.
    pub proxy: Proxy,
    /// How long a push may take, its repetitions included.
    pub push_timeout: Duration,
    /// What is pushed, and how often.
    pub shape: PushShape,
}

impl fmt::Debug for PushSettings {
    /// Leaves out the values of headers, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushSettings")
            .field("endpoint", &self.endpoint.to_string())
            .field("protocol", &self.protocol)
            .field("headers", &self.headers.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("gzip", &self.gzip)
            .field("timeout", &self.timeout)
            .field("push_timeout", &self.push_timeout)
            .field("tls", &self.tls)
            .field("proxy", &self.proxy)
            .field("shape", &self.shape)
            .finish()
    }
}

/// A proxy, in the form that `curl` and Go's programs use.
#[derive(Clone, Default)]
pub struct Proxy {
    /// Its address, which may hold a password.
    pub url: Option<String>,
    /// Hosts, domains and networks that are reached without it, separated by commas.
    pub except: String,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("is_set", &self.url.is_some()).field("except", &self.except).finish()
    }
}

/// Files of TLS, each with the name of its setting.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// Authorities that sign the receiver's certificate, instead of those that the host trusts.
    pub authorities: Option<TlsFile>,
    /// The certificates and the key by which this host identifies itself to the receiver.
    pub client: Option<(TlsFile, TlsFile)>,
}

/// A file, and the setting that names it.
#[derive(Clone, Debug)]
pub struct TlsFile {
    /// Where it is.
    pub path: PathBuf,
    source: SettingSource,
}

impl TlsFile {
    fn new(given: &Given) -> Self {
        Self { path: PathBuf::from(given.text.trim()), source: given.source.clone() }
    }

    /// Makes an error that names the setting.
    pub(in crate::otlp) fn wrong(&self, message: impl Into<String>) -> SettingError {
        SettingError::new(&self.source, message.into(), None)
    }
}

/// All destinations of metrics.
#[derive(Debug)]
pub struct Exports {
    /// Whether `/metrics` is served.
    pub serve: bool,
    /// How metrics are printed, if they are.
    pub console: Option<PushShape>,
    /// How metrics are pushed, if they are.
    pub push: Option<PushSettings>,
    /// Attributes of the resource, which override those that tapster finds out. Later ones win.
    pub resource: Vec<(String, String)>,
}

/// What is pushed, and how often.
#[derive(Clone, Copy, Debug)]
pub struct PushShape {
    /// How often.
    pub interval: Duration,
    /// Totals or differences.
    pub temporality: Temporality,
    /// The form of histograms.
    pub histograms: Histograms,
    /// Keys of attributes.
    pub attributes: AttributeNames,
}

/// Default of `OTEL_METRIC_EXPORT_INTERVAL`.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
/// Default of `OTEL_METRIC_EXPORT_TIMEOUT`.
const DEFAULT_PUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// Default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Exports {
    /// Reads the settings. Settings of pushes are checked only if something is pushed: the variables are often set
    /// for all programs of a host.
    pub fn read(sources: &SettingSources<'_>) -> Result<Self, SettingError> {
        // It is often set for all programs of a host, so a wrong value is no error.
        let disabled = sources.variable(DISABLED)?.is_some_and(|given| {
            given.word(&BOOLEANS).unwrap_or_else(|error| {
                tracing::warn!("{error}; it counts as `false`");
                false
            })
        });
        let endpoint = endpoint(sources)?;
        let exporters = match sources.get(EXPORTERS_SETTING)? {
            Some(given) => exporters(&given)?,
            None if endpoint.is_some() => vec![MetricsExporter::Prometheus, MetricsExporter::Otlp],
            None => vec![MetricsExporter::Prometheus],
        };
        let is_asked = |exporter| exporters.contains(&exporter) && !disabled;
        let serve = exporters.contains(&MetricsExporter::Prometheus);
        if !is_asked(MetricsExporter::Otlp) && !is_asked(MetricsExporter::Console) {
            return Ok(Self { serve, console: None, push: None, resource: Vec::new() });
        }
        let shape = PushShape {
            interval: sources.value(INTERVAL, DEFAULT_INTERVAL, Given::time)?,
            temporality: sources
                .value(TEMPORALITY, Temporality::Cumulative, |given| given.word(&TEMPORALITIES))?,
            histograms: sources.value(HISTOGRAM, Histograms::Exponential, |given| given.word(&HISTOGRAMS))?,
            attributes: sources.value(ATTRIBUTES, AttributeNames::Prometheus, |given| given.word(&NAMES))?,
        };
        Ok(Self {
            serve,
            console: is_asked(MetricsExporter::Console).then_some(shape),
            push: is_asked(MetricsExporter::Otlp)
                .then(|| settings(sources, endpoint.as_ref(), shape))
                .transpose()?,
            resource: resource(sources)?,
        })
    }
}

/// A list of exporters; `none` is an empty one.
fn exporters(given: &Given) -> Result<Vec<MetricsExporter>, SettingError> {
    let words: Vec<&str> = given.text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let mut exporters = Vec::new();
    for word in &words {
        let one = Given { text: (*word).to_owned(), source: given.source.clone() };
        match one.word(&EXPORTERS)? {
            Some(exporter) => exporters.push(exporter),
            None if words.len() > 1 => {
                return Err(given.wrong("`none` does not go with others"));
            }
            None => {}
        }
    }
    Ok(exporters)
}

/// The first endpoint that was given, and whether it is the endpoint of metrics or that of all signals.
fn endpoint(sources: &SettingSources<'_>) -> Result<Option<(Given, bool)>, SettingError> {
    for (setting, is_whole) in [(METRICS_ENDPOINT, true), (ENDPOINT, false)] {
        if let Some(given) = sources.flag(setting) {
            return Ok(Some((given, is_whole)));
        }
    }
    for (setting, is_whole) in [(METRICS_ENDPOINT, true), (ENDPOINT, false)] {
        if let Some(given) = sources.variables(setting)? {
            return Ok(Some((given, is_whole)));
        }
    }
    let of_file = |(setting, is_whole)| sources.file(setting).map(|given| (given, is_whole));
    Ok([(METRICS_ENDPOINT, true), (ENDPOINT, false)].into_iter().find_map(of_file))
}

fn settings(
    sources: &SettingSources<'_>,
    endpoint: Option<&(Given, bool)>,
    shape: PushShape,
) -> Result<PushSettings, SettingError> {
    let protocol = sources.value(PROTOCOL, Protocol::Http, |given| given.word(&PROTOCOLS))?;
    let insecure = sources.value(INSECURE, false, |given| given.word(&BOOLEANS))?;
    let endpoint = match endpoint {
        Some((given, is_whole)) => Endpoint::parse(given.text.trim(), protocol, *is_whole, insecure)
            .map_err(|wrong| given.wrong_hint(wrong.message, wrong.hint))?,
        None => Endpoint::local(protocol),
    };
    let is_tls = endpoint.is_tls();
    let file = |setting| Ok(sources.get(setting)?.as_ref().map(TlsFile::new));
    let client = match (file(CLIENT_CERTIFICATE)?, file(CLIENT_KEY)?) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(certificate), None) => {
            return Err(certificate.wrong(format!(
                "a client's certificate needs its key: give `{}` or `{}` as well",
                CLIENT_KEY.flag, CLIENT_KEY.variables[1]
            )));
        }
        (None, Some(key)) => {
            return Err(key.wrong(format!(
                "a client's key needs its certificate: give `{}` or `{}` as well",
                CLIENT_CERTIFICATE.flag, CLIENT_CERTIFICATE.variables[1]
            )));
        }
    };
    Ok(PushSettings {
        endpoint,
        protocol,
        headers: header_list(sources)?,
        gzip: sources.value(COMPRESSION, true, |given| given.word(&COMPRESSIONS))?,
        timeout: sources.value(TIMEOUT, DEFAULT_TIMEOUT, Given::limit)?,
        tls: TlsFiles { authorities: file(CERTIFICATE)?, client },
        proxy: if is_tls { proxy(sources)? } else { Proxy::default() },
        push_timeout: sources.value(PUSH_TIMEOUT, DEFAULT_PUSH_TIMEOUT, Given::limit)?,
        shape,
    })
}

fn proxy(sources: &SettingSources<'_>) -> Result<Proxy, SettingError> {
    let first =
        |names: &[&'static str]| names.iter().find_map(|name| sources.variable(name).transpose()).transpose();
    let url = match first(&PROXY)? {
        Some(given) => {
            let text = given.text.trim();
            // The scheme may be left out. The message must not repeat a password.
            let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            let is_address = whole.parse().is_ok_and(|uri: hyper::Uri| uri.host().is_some());
            if !is_address || !whole.starts_with("http://") {
                return Err(
                    given.wrong_hint("it is not the address of a proxy of HTTP", "`http://proxy:3128`")
                );
            }
            Some(whole)
        }
        None => None,
    };
    let except = first(&NO_PROXY)?.map(|given| given.text).unwrap_or_default();
    Ok(Proxy { url, except })
}

fn header_list(sources: &SettingSources<'_>) -> Result<Vec<(String, String)>, SettingError> {
    if let Some(given) =
        sources.flag(HEADERS).map_or_else(|| sources.variables(HEADERS), |flag| Ok(Some(flag)))?
    {
        return headers(&given.text).map_err(|message| given.wrong(message));
    }
    let Some(file) = sources.file else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    for (name, value) in &file.headers {
        let checked = parse::header(&name.value, &value.value).map_err(|message| {
            let source = SettingSource::File(Arc::clone(&file.file), name.span.clone(), HEADERS.key);
            SettingError::new(&source, message, None)
        })?;
        list.push(checked);
    }
    Ok(list)
}

/// Attributes of the resource from all sources; later ones override earlier ones. Within one source the name of the
/// service overrides the attributes.
fn resource(sources: &SettingSources<'_>) -> Result<Vec<(String, String)>, SettingError> {
    let mut all: Vec<(String, String)> = Vec::new();
    if let Some(file) = sources.file {
        all.extend(file.resource.iter().map(|(key, value)| (key.value.clone(), value.value.clone())));
    }
    let from = [
        (None, sources.file(SERVICE_NAME)),
        (sources.variables(RESOURCE)?, sources.variables(SERVICE_NAME)?),
        (sources.flag(RESOURCE), sources.flag(SERVICE_NAME)),
    ];
    for (attributes, name) in from {
        if let Some(given) = attributes {
            all.extend(pairs(&given.text).map_err(|message| given.wrong(message))?);
        }
        all.extend(name.map(|given| ("service.name".to_owned(), given.text.trim().to_owned())));
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
