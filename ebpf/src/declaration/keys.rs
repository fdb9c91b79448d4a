//! The table of the keys of the YAML: name, form, default and documentation. A new key needs its line here and the use of its
//! value.
//!
//! Keys of a single kind of metric are in the file of that kind, in [`crate::metric`].

mod state;

use super::event_keys::{AT, BETWEEN, ON_KERNELS, OPTIONAL, POINTS, SINGLE};
pub(super) use state::{ADD, CLEAR, NOTE, SET, STATE};

use crate::{
    key::{Fallback, Form, Key, concat, mapping, table, total},
    metric,
    probe::WAITING_KEYS,
    unit::UNITS,
};
use serde_json::{Value, json};

pub(super) const ONE_OR_MORE_EXPRESSIONS: Form =
    Form::Either(&[Form::Expression, Form::List(&Form::Expression)]);
pub(super) const ATTACH: Form = Form::Either(&[Form::Text, Form::Mapping(POINTS), Form::List(&Form::Text)]);
const TEXTS: Form = Form::Either(&[Form::Text, Form::List(&Form::Text)]);
const EVENTS: Form = Form::Either(&[Form::Mapping(EVENT), Form::List(&Form::Mapping(EVENT))]);
const BETWEEN_EVENTS: Form = Form::Either(&[Form::Mapping(BETWEEN), Form::List(&Form::Mapping(BETWEEN))]);
const NOTES: Form = Form::Either(&[Form::Mapping(NOTE), Form::List(&Form::Mapping(NOTE))]);
const CHANGES: Form = Form::Named(&Form::Expression);

/// Keys of a file.
pub(super) const FILE: &[Key] = &[
    Key::new(
        "library",
        Form::Either(&[Form::Boolean, Form::List(&Form::Text)]),
        "Shipped probes to run besides those of this file: `true` for all that are on by default, or a list of names. The name of a shipped file without `.yaml`, such as `sched`, is all that are in it.",
    )
    .or(Fallback::Boolean(false)),
    Key::new(
        "overrides",
        Form::Named(&Form::Mapping(OVERRIDE)),
        "[What is changed of shipped probes](#shipped-probes-adjusted): the name of one, or of a group such as `block` → what to change.",
    ),
    Key::new("probes", Form::List(&Form::Mapping(PROBE)), "The [probes](#the-probe)."),
    Key::new(
        "reasons",
        Form::List(&Form::Mapping(REASON)),
        "[What sleeps wait for](#reasons), for labels decoded by `reason`: besides the shipped table, and before it at equal priority.",
    ),
    Key::new(
        "device_groups",
        Form::List(&Form::Mapping(DEVICE_GROUP)),
        "[Block devices that do the same work](#groups-of-devices) without an array, for the label `group` of `tapster_block_device_info`. The first entry that a device fits counts.",
    ),
    Key::new(
        "exporters",
        Form::List(&Form::Word(&["prometheus", "otlp", "console", "none"])),
        "Where metrics go: a list of `prometheus`, `otlp`, `console`, or `none`; see [otlp.md](otlp.md#settings).",
    )
    .or(Fallback::Told("`prometheus`, and `otlp` as well where an endpoint is given")),
    Key::new(
        "otlp",
        Form::Mapping(OTLP),
        "How metrics are pushed by OTLP: [its keys](otlp.md#settings). Flags and `OTEL_*` variables go before these keys. One file of several may have it.",
    ),
];

/// Keys of an entry of `overrides`.
pub(super) const OVERRIDE: &[Key] = &[
    Key::new(
        "enabled",
        Form::Boolean,
        "Whether it runs with the library as a whole. With `false` it runs only where the command line has its own name.",
    )
    .or(Fallback::Told("the probe's")),
    Key::new("max_series", Form::Integer(1, 1_000_000), "Most label sets.").or(Fallback::Told("the probe's")),
    Key::new(
        "devices",
        Form::Mapping(CHOICE),
        "Block devices by name, of labels decoded by `block_device`. I/O of others is not counted.",
    )
    .or(Fallback::Told("all")),
    Key::new("metrics", Form::Mapping(CHOICE), "Metrics by name, with or without `tapster_`. Others are not counted.")
        .or(Fallback::Told("all")),
    Key::new(
        "bounds",
        Form::List(&Form::Either(&[Form::Number, Form::Text])),
        "Bounds of the classic form of histograms, in base units or as `2^-10`: some of those that their buckets have.",
    )
    .or(Fallback::Told("the probe's")),
    Key::new(
        "schema",
        Form::Integer(0, 4),
        "Buckets of histograms, in the kernel and in the native form: 2^schema for each power of two.",
    )
    .or(Fallback::Told("the probe's")),
    Key::new(
        "classic",
        Form::Boolean,
        "Whether histograms have a classic form. With `false` texts have `+Inf`, sum and count of them, and protobuf only the native form.",
    )
    .or(Fallback::Boolean(true)),
];

/// Keys of `devices` and `metrics`.
pub(super) const CHOICE: &[Key] = &[
    Key::new("include", TEXTS, "Patterns of those that are taken: `*`, `?` and `[...]`; one or a list.")
        .or(Fallback::Told("all")),
    Key::new("exclude", TEXTS, "Patterns of those that are left out of them.").or(Fallback::Told("none")),
];

/// Keys of `otlp`. Their defaults are those of the exporter's settings, which flags and variables share.
pub(super) const OTLP: &[Key] = &[
    Key::new(
        "endpoint",
        Form::Text,
        "URL of the receiver: `http://HOST:4318`, to which `/v1/metrics` is added, or `http://HOST:4317` for gRPC.",
    ),
    Key::new("metrics_endpoint", Form::Text, "Whole URL for metrics, taken as it is; before `endpoint`."),
    Key::new(
        "protocol",
        Form::Word(&["http/protobuf", "grpc"]),
        "How requests travel; default `http/protobuf`.",
    ),
    Key::new("headers", Form::Named(&Form::Text), "Headers of each request: name → value."),
    Key::new("timeout", Form::Text, "How long one request may take; default 10s."),
    Key::new(
        "compression",
        Form::Word(&["gzip", "none"]),
        "Whether requests are compressed; default `gzip`.",
    ),
    Key::new(
        "certificate",
        Form::Text,
        "File of the authorities that sign the receiver's certificate (PEM). Default: those that the host trusts.",
    ),
    Key::new(
        "client_certificate",
        Form::Text,
        "File of this host's certificate (PEM), for receivers that ask for one.",
    ),
    Key::new("client_key", Form::Text, "File of its key (PEM)."),
    Key::new(
        "insecure",
        Form::Boolean,
        "Whether gRPC to an endpoint without `http://` or `https://` is without TLS; default false.",
    ),
    Key::new("interval", Form::Text, "How often metrics are pushed; default 1m."),
    Key::new("push_timeout", Form::Text, "How long a push may take, its repetitions included; default 30s."),
    Key::new(
        "temporality",
        Form::Word(&["cumulative", "delta", "lowmemory"]),
        "Totals since the beginning, differences, or differences of histograms only; default `cumulative`.",
    ),
    Key::new(
        "histograms",
        Form::Word(&["base2_exponential_bucket_histogram", "explicit_bucket_histogram"]),
        "Form of histograms whose buckets are exponential; default as they were counted.",
    ),
    Key::new(
        "attributes",
        Form::Word(&["prometheus", "semconv"]),
        "Keys of attributes: the labels of `/metrics`, or the names of OpenTelemetry's conventions where there are any; default `prometheus`.",
    ),
    Key::new("resource", Form::Named(&Form::Text), "Attributes of the resource: key → text."),
    Key::new("service_name", Form::Text, "`service.name` of the resource; default `tapster`."),
];

/// Keys of an entry of `reasons`.
pub(super) const REASON: &[Key] = &[
    Key::required(
        "reason",
        Form::Name,
        "The label's value, which should not change: lower case letters, digits and `_`. The same as a shipped one adds to it; `text` may then be left out.",
    ),
    Key::new("text", Form::Text, "The same in a sentence, for people; once for each reason."),
    Key::new(
        "priority",
        Form::Integer(1, 100),
        "Of all functions of a stack that are in the table, one with the highest says the reason; of equals one of your own table, and of those the innermost.",
    )
    .or(Fallback::Integer(50)),
    Key::new(
        "functions",
        Form::List(&Form::Text),
        "Functions of the kernel, wherever they are on the stack, or CALLER;FUNCTION where only a certain caller's counts; `*`, `?` and `[...]` match several.",
    ),
    Key::new("innermost", Form::List(&Form::Text), "Functions that count only if it is they who sleep."),
];

/// Keys of an entry of `device_groups`: the patterns are named as the labels of `tapster_block_device_info` are.
pub(super) const DEVICE_GROUP: &[Key] = &[
    Key::required("group", Form::Text, "The label's value: what the devices are to the site, such as `osd`."),
    Key::new("device", TEXTS, "The kernel's name: `sd[b-m]`, or a list of patterns; as all keys below."),
    Key::new("name", TEXTS, "What people call it: `vg-lv`, `mpatha`."),
    Key::new(
        "model",
        TEXTS,
        "The model of the disk. This key and those below fit disks, not what is on them.",
    ),
    Key::new("serial", TEXTS, "The serial number of the disk."),
    Key::new("wwn", TEXTS, "The world-wide name of the disk."),
    Key::new("path", TEXTS, "The way to the disk: `pci-0000:3b:00.0-*`."),
    Key::new("transport", TEXTS, "How the disk is connected: `nvme`, `sas`."),
];

/// Keys of a probe.
pub(super) const PROBE: &[Key] = &[
    Key::required(
        "name",
        Form::Name,
        "Name of the probe. Probes of one name are variants; the first whose `kernel` fits is used.",
    ),
    Key::new("help", Form::Text, "What the probe measures; also the help text of metrics without one of their own."),
    Key::new(
        "enabled",
        Form::Boolean,
        "Whether it runs with its file or the library as a whole, and not only when it is named: by `--probes`, or in `library`.",
    )
    .or(Fallback::Boolean(true)),
    Key::new(
        "kernel",
        Form::Text,
        "Kernels that this variant is for: `\">=5.18\"`, `\"<6.1\"`, or both joined by a comma.",
    )
    .or(Fallback::Told("all")),
    Key::new(
        "at",
        ATTACH,
        "[Attach point](#attach-points) of a single event. For several write [`one_of` or `all_of`](#one-of-them-or-all-of-them).",
    ),
    Key::new(
        "events",
        Form::List(&Form::Mapping(SINGLE)),
        "A list of [single events](#several-events), all of which feed the metrics; each may have labels and values of its own.",
    ),
    Key::new(
        "start",
        EVENTS,
        "Where a measured time begins: an [event](#events), or a list of events, which are all used.",
    ),
    Key::new("end", EVENTS, "Where it ends: an [event](#events), or a list of events, which are all used."),
    Key::new(
        "between",
        BETWEEN_EVENTS,
        "Measures the [time between events](#time-between-events): from each to the next with the same key. An event, or a list of events, which are all used.",
    ),
    Key::new(
        "function",
        Form::Text,
        "[A function](#function) of the kernel, or `BINARY:FUNCTION` of a program or library; `*`, `?` and `[...]` match several. The probe measures each of their calls: it stands for a start at the entry and an end at the return.",
    ),
    Key::new(
        "pid",
        Form::Integer(1, 4_194_304),
        "A process: [programs and libraries](#files-of-programs) of attach points are those that it sees under their paths.",
    )
    .or(Fallback::Told("those that `tapster` sees")),
    Key::new(
        "container",
        Form::Text,
        "A container, by the beginning of its id or its name: [programs and libraries](#files-of-programs) are its own, and only its processes count.",
    ),
    Key::new(
        "save",
        Form::Named(&Form::Expression),
        "With `function`: [values kept](#save) from its entry, read as `start.NAME`.",
    ),
    Key::new("let", Form::Named(&Form::Expression), "[Named expressions](#let)."),
    Key::new(
        "state",
        Form::Named(&Form::Mapping(STATE)),
        "[Values that events leave for others](#state), read as `state.NAME`.",
    ),
    Key::new(
        "note",
        NOTES,
        "[Events that count nothing](#state) and only change the state: one, or a list.",
    ),
    Key::new("set", CHANGES, "With `at`, as in an [event](#events): what becomes of the [state](#state)."),
    Key::new("add", CHANGES, "With `at`: what is added to the [state](#state)."),
    Key::new("clear", TEXTS, "With `at`: which of the [state](#state) is given up."),
    Key::new(
        "where",
        Form::Expression,
        "[Which events count](#where); with `at`, and with `function` of its returns. Else it is in the events.",
    )
    .or(Fallback::Told("all")),
    Key::new(
        "each",
        Form::Mapping(EACH),
        "Runs the action once for each element of [a list](#each); with `at` only, else it is in the events.",
    ),
    Key::new(
        "labels",
        Form::Named(&Form::Either(&[Form::Expression, Form::Mapping(LABEL)])),
        "[Labels](#labels): name → expression, or value and decoder.",
    )
    .or(Fallback::Told("none: one row")),
    Key::required(
        "metrics",
        Form::List(&Form::Mapping(METRIC)),
        "What is kept for each label set. At least one [metric](#metrics).",
    ),
    Key::new(
        "max_series",
        Form::Integer(1, 1_000_000),
        "Most label sets; beyond it events are counted as dropped. With `labels`.",
    )
    .or(Fallback::Integer(1024)),
    Key::new(
        "max_inflight",
        Form::Integer(1, 10_000_000),
        "How many starts that wait for their end have room; not with `at` and `events`.",
    )
    .or(Fallback::Integer(16_384)),
    MAX_FUNCTIONS,
    INFLIGHT_TIMEOUT,
    Key::new(
        "rows",
        Form::Word(&["auto", "per_cpu", "shared"]),
        "Whether each CPU has its own copy of the numbers, see [Bounds](#bounds-and-drops); `auto` decides by their size on this host.",
    )
    .or(Fallback::Text("auto")),
];

/// `max_functions` of a probe.
pub(crate) const MAX_FUNCTIONS: Key = Key::new(
    "max_functions",
    Form::Integer(1, 100_000),
    "Most functions or tracepoints that a [pattern](#patterns-of-functions) may match; more are refused.",
)
.or(Fallback::Integer(1000));

/// `inflight_timeout` of a probe.
pub(crate) const INFLIGHT_TIMEOUT: Key = Key::new(
    "inflight_timeout",
    Form::Duration,
    "After this a start without an end is given up and counted; not with `at` and `events`. Where it is not written and the probe has `in_flight` or `oldest`, only [if its end may have been missed](#what-waits).",
)
.or(Fallback::Text("10m"));

/// Keys of an event.
pub(super) const EVENT: &[Key] = &[
    AT,
    ON_KERNELS,
    OPTIONAL,
    // Told as missing by the reader of events, in words of its own.
    Key::new(
        "key",
        ONE_OR_MORE_EXPRESSIONS,
        "What joins a start to its end: an expression, or a list of up to 8.",
    )
    .or(Fallback::Told("required")),
    Key::new(
        "where",
        Form::Expression,
        "[Which events count](#where); an end that does not match leaves its start waiting.",
    )
    .or(Fallback::Told("all")),
    Key::new(
        "save",
        Form::Named(&Form::Expression),
        "Start only: [values kept](#save), read at the end as `start.NAME`.",
    ),
    Key::new(
        "first",
        Form::Boolean,
        "Start only: whether a start that waits [is kept](#a-start-that-waits-is-kept) when another of its key comes.",
    )
    .or(Fallback::Boolean(false)),
    Key::new(
        "each",
        Form::Mapping(EACH),
        "End only: runs the action once for each element of [a list](#each).",
    ),
    SET,
    ADD,
    CLEAR,
];

/// Keys of `each`.
pub(super) const EACH: &[Key] = &[
    Key::required("name", Form::Name, "Name of the element in expressions."),
    Key::required("from", Form::Expression, "The first element, a pointer."),
    Key::required(
        "next",
        Form::Expression,
        "The element after this one. A pointer of the same type, 0 at the end.",
    ),
    Key::required(
        "limit",
        Form::Integer(1, 4096),
        "Most elements visited; further ones are counted as dropped. Once for each list, as `each_limit`.",
    ),
    Key::new(
        "within",
        Form::Expression,
        "A budget: elements are visited while their `size` fits into what is left of it. Both or none.",
    ),
    Key::new("size", Form::Expression, "What an element takes of `within`."),
];

/// Keys of a label.
pub(super) const LABEL: &[Key] = &[
    // Told as missing by the reader of labels: events may give it.
    Key::new(
        "value",
        Form::Expression,
        "The label's value; with `events` that of all that have none of their own.",
    )
    .or(Fallback::Told("required, unless each of `events` has its own")),
    Key::new(
        "as",
        Form::Either(&[Form::Text, Form::Table, Form::Mapping(ENUMERATION), Form::Mapping(FLAGS), Form::Mapping(REGEXP)]),
        "How the value becomes text: the name of a [decoder](#decoders), a table of numbers and texts, [an enumeration or flags](#enumerations-and-flags), [regular expressions](#regular-expressions).",
    )
    .or(Fallback::Told("by the value's type")),
];

const PREFIX: Key = Key::new(
    "strip",
    Form::Text,
    "What the names begin with and the label leaves out; a name that does not begin so is shown whole.",
);

/// Keys of `as` for the names of an enumeration.
pub(super) const ENUMERATION: &[Key] = &[
    Key::new(
        "enum",
        Form::Text,
        "The enumeration's name on this kernel, or one of its enumerators where it has no name.",
    )
    .or(Fallback::Told("that of the value's own type")),
    PREFIX,
    Key::new("default", Form::Text, "The text of numbers that have no name.")
        .or(Fallback::Told("the number")),
];

/// Keys of `as` for the names of bits.
pub(super) const FLAGS: &[Key] = &[
    Key::required(
        "flags",
        Form::Either(&[Form::Text, Form::Table]),
        "The names of the bits: an enumeration as above, or a table of numbers or enumerators and texts.",
    ),
    PREFIX,
];

/// Keys of `as` for texts by regular expressions.
pub(super) const REGEXP: &[Key] = &[
    Key::required(
        "regexp",
        Form::Either(&[Form::List(&Form::Text), Form::Table]),
        "A list of regular expressions whose texts are shown as they are, or a table of expressions and the texts that are shown instead, with `$1` for a group.",
    ),
    Key::new("default", Form::Text, "The text of all that match none.").or(Fallback::Text("~other")),
];

/// Names of the units.
const UNIT_NAMES: [&str; UNITS.len()] = {
    let mut names = [""; UNITS.len()];
    let mut at = 0;
    while at < UNITS.len() {
        names[at] = UNITS[at].0;
        at += 1;
    }
    names
};

/// Keys that all metrics of events have; metrics of waiting starts have only `help` of these.
const OF_ALL_METRICS: &[Key] = &[
    Key::new("help", Form::Text, "What the metric counts.").or(Fallback::Told("the probe's")),
    Key::new(
        "value",
        Form::Expression,
        "What is added or kept; a counter without it counts events. Not of `in_flight` and `oldest`, which have a `help` alone.",
    )
    .or(Fallback::Told("needed but for counters")),
    Key::new("where", Form::Expression, "Which of the probe's events this metric takes.").or(Fallback::Told("all")),
    Key::new(
        "unit",
        Form::Either(&[Form::Word(&UNIT_NAMES), Form::Part]),
        "What one of the value is, see [units](#units), such as `us` or `1/2048`; exposed in seconds, bytes or whole ones.",
    )
    .or(Fallback::Told("`ns` for durations, else `none`")),
];

const OF_ONE_KIND: [Key; total(metric::OPTIONS)] = concat(metric::OPTIONS);
const METRIC_LISTS: &[&[Key]] = &[metric::KEYS, WAITING_KEYS, OF_ALL_METRICS, &OF_ONE_KIND];
const METRIC_KEYS: [Key; total(METRIC_LISTS)] = concat(METRIC_LISTS);

/// Keys of a metric: those that determine its kind, those of all metrics, those of one kind.
pub(super) const METRIC: &[Key] = &METRIC_KEYS;

/// JSON Schema (2020-12) of a file of probes.
pub fn schema() -> Value {
    let mut schema = mapping(FILE);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("tapster probes");
    schema
}

/// The tables of keys for the reference, in Markdown, by their names there.
pub fn tables() -> Vec<(&'static str, String)> {
    let lists: &[(&str, &[Key])] = &[
        ("file", FILE),
        ("override", OVERRIDE),
        ("choice", CHOICE),
        ("probe", PROBE),
        ("event", EVENT),
        ("points", POINTS),
        ("single event", SINGLE),
        ("between", BETWEEN),
        ("state", STATE),
        ("note", NOTE),
        ("each", EACH),
        ("label", LABEL),
        ("enumeration", ENUMERATION),
        ("flags", FLAGS),
        ("regexp", REGEXP),
        ("reason", REASON),
        ("device group", DEVICE_GROUP),
        ("kind of metric", &KIND_KEYS),
        ("metric", &OTHER_METRIC_KEYS),
        ("buckets", metric::BUCKETS),
        ("exponential", metric::EXPONENTIAL),
        ("linear", metric::LINEAR),
    ];
    lists.iter().map(|(name, keys)| (*name, table(keys))).collect()
}

const KIND_LISTS: &[&[Key]] = &[metric::KEYS, WAITING_KEYS];
const KIND_KEYS: [Key; total(KIND_LISTS)] = concat(KIND_LISTS);
const OTHER_LISTS: &[&[Key]] = &[OF_ALL_METRICS, &OF_ONE_KIND];
const OTHER_METRIC_KEYS: [Key; total(OTHER_LISTS)] = concat(OTHER_LISTS);

#[cfg(test)]
mod tests {
    use super::*;

    /// Collects all keys of a form, including nested ones.
    fn keys(form: &Form, found: &mut Vec<Key>) {
        match form {
            Form::Mapping(keys_of) => {
                for key in *keys_of {
                    found.push(*key);
                    keys(&key.form, found);
                }
            }
            Form::List(inner) | Form::Named(inner) => keys(inner, found),
            Form::Either(forms) => forms.iter().for_each(|form| keys(form, found)),
            _ => {}
        }
    }

    #[test]
    fn defaults_are_of_the_form_of_their_key() {
        let mut all = Vec::new();
        keys(&Form::Mapping(FILE), &mut all);
        let mut with_default = 0;
        for Key { name, form, fallback, .. } in all {
            let fits = match (fallback, form) {
                (Fallback::None | Fallback::Required | Fallback::Told(_), _) => continue,
                (Fallback::Integer(number), Form::Integer(least, most)) => (least..=most).contains(&number),
                (Fallback::Boolean(_), Form::Boolean | Form::Either([Form::Boolean, ..]))
                | (Fallback::Text(_), Form::Text) => true,
                (Fallback::Text(text), Form::Duration) => crate::key::duration(text).is_some(),
                (Fallback::Text(text), Form::Word(words)) => words.contains(&text),
                _ => false,
            };
            assert!(fits, "{name}");
            with_default += 1;
        }
        assert!(with_default >= 10, "{with_default}");
    }

    #[test]
    fn a_mapping_has_every_key_once() {
        for (name, keys) in
            [("metric", METRIC), ("probe", PROBE), ("file", FILE), ("event", EVENT), ("single", SINGLE)]
        {
            let mut names: Vec<_> = keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), keys.len(), "{name}");
        }
    }
}
