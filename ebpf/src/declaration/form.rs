//! The keys of the YAML, once: the decoder checks a file against this table, and the JSON Schema for
//! editors is made from it.

use serde_json::{Value, json};

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Any text.
    Text,
    /// A name: letters, digits, `_`, not starting with a digit.
    Name,
    /// An expression.
    Expression,
    /// `true` or `false`.
    Boolean,
    /// A whole number in this range.
    Integer(i64, i64),
    /// A number or a duration such as `10s`.
    Duration,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Nested keys.
    Mapping(&'static [Key]),
    /// A list of these.
    List(&'static Form),
    /// Keys chosen by the user, values of this form.
    Named(&'static Form),
    /// Any of these.
    Either(&'static [Form]),
    /// Whole number → text, and `default` → text.
    Table,
    /// A number in base units.
    Number,
}

impl Form {
    /// Whether a key may stand there with nothing behind it: a list or mapping of which nothing is left.
    pub(super) fn may_be_empty(&self) -> bool {
        match self {
            Self::List(_) | Self::Named(_) | Self::Mapping(_) => true,
            Self::Either(forms) => forms.iter().any(Self::may_be_empty) && !forms.iter().any(Self::is_text),
            _ => false,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Expression)
    }
}

/// A key of a mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) form: Form,
    pub(super) doc: &'static str,
}

const fn key(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, required: false, form, doc }
}

const fn required(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, required: true, form, doc }
}

const ONE_OR_MORE_EXPRESSIONS: Form = Form::Either(&[Form::Expression, Form::List(&Form::Expression)]);
const ATTACH: Form = Form::Either(&[Form::Text, Form::List(&Form::Text)]);
const EVENTS: Form = Form::Either(&[Form::Mapping(EVENT), Form::List(&Form::Mapping(EVENT))]);

pub(super) const FILE: &[Key] = &[
    key(
        "library",
        Form::Either(&[Form::Boolean, Form::List(&Form::Text)]),
        "Shipped probes to run besides those of this file: `true` for all that are on by default, or a list of names.",
    ),
    key("probes", Form::List(&Form::Mapping(PROBE)), "The probes."),
    key(
        "reasons",
        Form::List(&Form::Mapping(REASON)),
        "What sleeps wait for, for labels decoded by `reason`: besides the shipped table, and before it at equal priority.",
    ),
    key(
        "exporters",
        Form::List(&Form::Word(&["prometheus", "otlp", "console", "none"])),
        "Where metrics go. Default `prometheus`, and `otlp` as well where an endpoint is given.",
    ),
    key(
        "otlp",
        Form::Mapping(OTLP),
        "How metrics are pushed by OTLP. Flags and `OTEL_*` variables go before these keys.",
    ),
];

pub(super) const OTLP: &[Key] = &[
    key(
        "endpoint",
        Form::Text,
        "URL of the receiver: `http://HOST:4318`, to which `/v1/metrics` is added, or `http://HOST:4317` for gRPC.",
    ),
    key("metrics_endpoint", Form::Text, "Whole URL for metrics, taken as it is; before `endpoint`."),
    key("protocol", Form::Word(&["http/protobuf", "grpc"]), "How requests travel; default `http/protobuf`."),
    key("headers", Form::Named(&Form::Text), "Headers of each request: name → value."),
    key("timeout", Form::Text, "How long one request may take; default 10s."),
    key("compression", Form::Word(&["gzip", "none"]), "Whether requests are compressed; default `gzip`."),
    key(
        "certificate",
        Form::Text,
        "File of the authorities that sign the receiver's certificate (PEM). Default: those that the host trusts.",
    ),
    key(
        "client_certificate",
        Form::Text,
        "File of this host's certificate (PEM), for receivers that ask for one.",
    ),
    key("client_key", Form::Text, "File of its key (PEM)."),
    key(
        "insecure",
        Form::Boolean,
        "Whether gRPC to an endpoint without `http://` or `https://` is without TLS; default false.",
    ),
    key("interval", Form::Text, "How often metrics are pushed; default 1m."),
    key("push_timeout", Form::Text, "How long a push may take, its repetitions included; default 30s."),
    key(
        "temporality",
        Form::Word(&["cumulative", "delta", "lowmemory"]),
        "Totals since the beginning, differences, or differences of histograms only; default `cumulative`.",
    ),
    key(
        "histograms",
        Form::Word(&["base2_exponential_bucket_histogram", "explicit_bucket_histogram"]),
        "Form of histograms whose buckets are exponential; default as they were counted.",
    ),
    key(
        "attributes",
        Form::Word(&["prometheus", "semconv"]),
        "Keys of attributes: the labels of `/metrics`, or the names of OpenTelemetry's conventions where there are any; default `prometheus`.",
    ),
    key("resource", Form::Named(&Form::Text), "Attributes of the resource: key → text."),
    key("service_name", Form::Text, "`service.name` of the resource; default `tapster`."),
];

pub(super) const REASON: &[Key] = &[
    required(
        "reason",
        Form::Name,
        "The label's value, which should not change: lower case letters, digits and `_`.",
    ),
    key("text", Form::Text, "The same in a sentence, for people."),
    key(
        "priority",
        Form::Integer(1, 100),
        "Of all functions of a stack that are in the table, one with the highest says the reason. Default 50.",
    ),
    key(
        "functions",
        Form::List(&Form::Text),
        "Functions of the kernel, wherever they are on the stack, or CALLER;FUNCTION; `*`, `?` and `[...]` match several.",
    ),
    key("innermost", Form::List(&Form::Text), "Functions that count only if it is they who sleep."),
];

pub(super) const PROBE: &[Key] = &[
    required(
        "name",
        Form::Name,
        "Name of the probe. Probes of one name are variants; the first whose `kernel` fits is used.",
    ),
    key("help", Form::Text, "What the probe measures."),
    key(
        "enabled",
        Form::Boolean,
        "Whether it runs with its file or the library as a whole, and not only when it is named; default true.",
    ),
    key(
        "kernel",
        Form::Text,
        "Kernels that this variant is for: `>=5.18`, `<6.1`, or both joined by a comma.",
    ),
    key(
        "at",
        ATTACH,
        "Attach point of a single event, or a list of alternatives of which the first that the kernel has and takes is used.",
    ),
    key("start", EVENTS, "Where a measured time begins: an event, or a list of events."),
    key("end", EVENTS, "Where it ends: an event, or a list of events."),
    key(
        "function",
        Form::Text,
        "A function of the kernel, or `BINARY:FUNCTION` of a program or library; `*`, `?` and `[...]` match several. The probe measures each of their calls.",
    ),
    key(
        "pid",
        Form::Integer(1, 4_194_304),
        "A process: programs and libraries of attach points are those that it sees under their paths.",
    ),
    key(
        "container",
        Form::Text,
        "A container, by the beginning of its id or its name: programs and libraries are its own, and only its processes count.",
    ),
    key(
        "save",
        Form::Named(&Form::Expression),
        "With `function`: values kept from its entry, read as `start.NAME`.",
    ),
    key("let", Form::Named(&Form::Expression), "Named expressions."),
    key("where", Form::Expression, "Which events count; with `function`, which returns of it."),
    key(
        "each",
        Form::Mapping(EACH),
        "Runs the action once for each element of a list; with `at` only, else it belongs to the end event.",
    ),
    key(
        "labels",
        Form::Named(&Form::Either(&[Form::Expression, Form::Mapping(LABEL)])),
        "Labels: name → expression, or value and decoder.",
    ),
    required("metrics", Form::List(&Form::Mapping(METRIC)), "What is kept for each label set."),
    key(
        "max_series",
        Form::Integer(1, 1_000_000),
        "Most label sets; beyond it events are counted as dropped. Default 1024.",
    ),
    key(
        "max_inflight",
        Form::Integer(1, 10_000_000),
        "How many starts that wait for their end have room. Default 16384.",
    ),
    key(
        "max_functions",
        Form::Integer(1, 100_000),
        "Most functions that a pattern may match; more are refused. Default 1000.",
    ),
    key(
        "inflight_timeout",
        Form::Duration,
        "After this a start without an end is given up and counted. Default 10m; with `in_flight` or `oldest`, if its end may have been missed.",
    ),
    key(
        "rows",
        Form::Word(&["auto", "per_cpu", "shared"]),
        "Whether each CPU has its own copy of the numbers; `auto` decides by their size on this host.",
    ),
];

pub(super) const EVENT: &[Key] = &[
    required(
        "at",
        ATTACH,
        "Attach point, or a list of alternatives of which the first that the kernel has and takes is used.",
    ),
    key("kernel", Form::Text, "Kernels that this event is for."),
    key("key", ONE_OR_MORE_EXPRESSIONS, "What joins a start to its end: an expression or a list of them."),
    key(
        "where",
        Form::Expression,
        "Which events count; an end that does not match leaves its start waiting.",
    ),
    key(
        "save",
        Form::Named(&Form::Expression),
        "Values kept from the start, read at the end as `start.NAME`.",
    ),
    key("each", Form::Mapping(EACH), "Runs the action once for each element of a list."),
];

pub(super) const EACH: &[Key] = &[
    required("name", Form::Name, "Name of the element in expressions."),
    required("from", Form::Expression, "The first element, a pointer."),
    required("next", Form::Expression, "The element after this one."),
    required("limit", Form::Integer(1, 4096), "Most elements visited; further ones are counted as dropped."),
    key(
        "within",
        Form::Expression,
        "A budget: elements are visited while their `size` fits into what is left of it.",
    ),
    key("size", Form::Expression, "What an element takes of `within`."),
];

pub(super) const LABEL: &[Key] = &[
    required("value", Form::Expression, "The label's value."),
    key(
        "as",
        Form::Either(&[Form::Text, Form::Table]),
        "How the value becomes text: the name of a decoder, or a table of numbers and texts.",
    ),
];

pub(super) const METRIC: &[Key] = &[
    key("counter", Form::Name, "Name of a counter, ending in `_total`; `tapster_` is put before it."),
    key("histogram", Form::Name, "Name of a histogram."),
    key("gauge", Form::Name, "Name of a gauge that keeps the last value."),
    key("max", Form::Name, "Name of a gauge that keeps the largest value of the last `window`."),
    key(
        "in_flight",
        Form::Name,
        "Name of a gauge of the starts that wait for their end, by the labels that are known from the start.",
    ),
    key(
        "oldest",
        Form::Name,
        "Name of a gauge, ending in `_seconds`, of how long the oldest of these has waited.",
    ),
    key("help", Form::Text, "What the metric counts."),
    key("value", Form::Expression, "What is added or kept; a counter without it counts events."),
    key("where", Form::Expression, "Which of the probe's events this metric takes."),
    key(
        "unit",
        Form::Word(&["none", "ns", "us", "ms", "s", "bytes", "sectors", "kib"]),
        "What one of the value is; exposed in seconds or bytes. Durations are `ns` by themselves.",
    ),
    key(
        "buckets",
        Form::Either(&[Form::List(&Form::Number), Form::Mapping(BUCKETS)]),
        "Bounds of a histogram in base units: a list, or a scheme.",
    ),
    key("window", Form::Duration, "How long `max` looks back; default 60s."),
];

pub(super) const BUCKETS: &[Key] = &[
    key(
        "exponential",
        Form::Mapping(EXPONENTIAL),
        "Powers of two and their roots; also exposed as a native histogram.",
    ),
    key("linear", Form::Mapping(LINEAR), "Buckets of one width."),
];

pub(super) const EXPONENTIAL: &[Key] = &[
    key("schema", Form::Integer(0, 4), "2^schema buckets for each power of two; default 3."),
    key("min", Form::Integer(-40, 60), "The lowest bound is 2^min base units."),
    key(
        "max",
        Form::Integer(-40, 61),
        "The highest bound is 2^max base units; values above it are in `+Inf`.",
    ),
    key("classic_step", Form::Integer(1, 16), "Powers of two between two classic bounds; default 1."),
];

pub(super) const LINEAR: &[Key] = &[
    required("start", Form::Number, "Upper bound of the first bucket."),
    required("width", Form::Number, "Width of the others."),
    required("count", Form::Integer(1, 512), "Number of bounds."),
];

/// JSON Schema (2020-12) of a file of probes.
pub fn schema() -> Value {
    let mut schema = mapping(FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("tapster probes");
    schema
}

fn mapping(keys: &[Key]) -> Value {
    let properties: serde_json::Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut value = of(&key.form);
            value["description"] = json!(key.doc);
            (key.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn of(form: &Form) -> Value {
    match form {
        Form::Text => json!({"type": "string"}),
        Form::Name => json!({"type": "string", "pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"}),
        // `value: 1` and `where: true` are read by YAML as a number and a boolean.
        Form::Expression => json!({"type": ["string", "integer", "boolean"]}),
        Form::Boolean => json!({"type": "boolean"}),
        Form::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Duration => json!({"type": ["string", "integer"]}),
        Form::Word(words) => json!({"enum": words}),
        Form::Mapping(keys) => mapping(keys),
        Form::List(inner) => json!({"type": "array", "items": of(inner)}),
        Form::Named(inner) => json!({"type": "object", "additionalProperties": of(inner)}),
        Form::Either(forms) => json!({"anyOf": forms.iter().map(of).collect::<Vec<_>>()}),
        Form::Table => {
            json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
        }
        Form::Number => json!({"type": "number"}),
    }
}
