use super::{given::LONGEST, *};
use tapster_ebpf::{declaration, diagnostic::SourceFile};

const NONE: &[(&str, &str)] = &[];

/// Reads settings from flags, variables and a file.
fn read(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str) -> Result<Exports, String> {
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, text)| Ok((*text).to_owned()))
    };
    let (file, diagnostics) = declaration::parse(&SourceFile::new("site.yaml", file));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let flags = flags.iter().map(|(flag, text)| (*flag, Some((*text).to_owned()))).collect();
    Exports::read(&SettingSources { flags, variable: &variable, file: file.otlp.as_ref() })
        .map_err(|error| error.to_string())
}

fn push(variables: &[(&str, &str)]) -> PushSettings {
    let all = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")], variables].concat();
    read(&[], &all, "").unwrap().push.unwrap()
}

#[test]
fn nothing_is_pushed_until_an_endpoint_is_given() {
    let exports = read(&[], NONE, "").unwrap();
    assert!(exports.serve && exports.push.is_none() && exports.console.is_none());
    for (flags, variables, file) in [
        (&[("--otlp.endpoint", "http://a:1")][..], NONE, ""),
        (&[("--otlp.metrics-endpoint", "http://a:1")], NONE, ""),
        (&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1")][..], ""),
        (&[], &[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://a:1")], ""),
        (&[], NONE, "otlp: {endpoint: 'http://a:1'}"),
        (&[], NONE, "otlp: {metrics_endpoint: 'http://a:1'}"),
    ] {
        let exports = read(flags, variables, file).unwrap();
        assert!(exports.serve && exports.push.is_some(), "{flags:?} {variables:?} {file}");
    }
    // An empty variable is not set, and other settings alone push nothing, right or wrong.
    let exports =
        read(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", " "), ("OTEL_EXPORTER_OTLP_PROTOCOL", "x")], "");
    assert!(exports.unwrap().push.is_none());
}

#[test]
fn defaults_are_those_of_the_specification() {
    let settings = push(NONE);
    assert_eq!(settings.endpoint.to_string(), "http://collector:4318/v1/metrics");
    assert_eq!(settings.protocol, Protocol::Http);
    assert_eq!(settings.timeout, Duration::from_secs(10));
    assert_eq!(settings.push_timeout, Duration::from_secs(30));
    assert_eq!(settings.shape.interval, Duration::from_mins(1));
    assert_eq!(settings.shape.temporality, Temporality::Cumulative);
    assert!(settings.headers.is_empty() && settings.tls.authorities.is_none());
    // Where the specification leaves it to the implementation, or where no SDK has what is better here.
    assert!(settings.gzip);
    assert_eq!(settings.shape.histograms, Histograms::Exponential);
    for (protocol, expected) in
        [("grpc", "http://localhost:4317"), ("http/protobuf", "http://localhost:4318/v1/metrics")]
    {
        let variables = [("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let exports = read(&[], &variables, "").unwrap();
        assert!(!exports.serve, "with `otlp` alone there is no port");
        assert_eq!(exports.push.unwrap().endpoint.to_string(), expected);
    }
}

#[test]
fn which_exporters() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1");
    for (list, serve, push, console) in [
        ("prometheus", true, false, false),
        ("otlp", false, true, false),
        ("Otlp, prometheus", true, true, false),
        ("console", false, false, true),
        ("console,otlp,prometheus", true, true, true),
        ("none", false, false, false),
    ] {
        let exports = read(&[], &[endpoint, ("OTEL_METRICS_EXPORTER", list)], "").unwrap();
        assert_eq!(
            (exports.serve, exports.push.is_some(), exports.console.is_some()),
            (serve, push, console)
        );
        let file = format!("exporters: [{list}]\notlp: {{endpoint: 'http://a:1'}}");
        if list == list.to_lowercase() {
            let exports = read(&[], NONE, &file).unwrap();
            assert_eq!((exports.serve, exports.push.is_some()), (serve, push), "{file}");
        }
    }
    let disabled =
        [endpoint, ("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "otlp,prometheus,console")];
    let exports = read(&[], &disabled, "").unwrap();
    assert!(exports.serve && exports.push.is_none() && exports.console.is_none());
    let exports = read(&[], &[endpoint, ("OTEL_SDK_DISABLED", "False")], "").unwrap();
    assert!(exports.push.is_some());
}

/// Endpoint, timeout and interval in seconds, whether there is gzip, headers, temporality.
type Seen = (String, u64, u64, bool, String, Temporality);

/// Each setting by each way, the strongest first: what is given by several is that of the first.
#[test]
fn flags_go_before_variables_and_variables_before_files() {
    let file = "otlp:\n  endpoint: http://file:1\n  metrics_endpoint: http://file:1/m\n  timeout: 1s\n  interval: 1s\n  \
                compression: none\n  temporality: lowmemory\n  headers: {from: file, other: kept}\n  protocol: grpc\n";
    let file = &file.replace("\n  metrics_endpoint: http://file:1/m", "");
    let all = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:2"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "from=all"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ];
    let metrics = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:3/path"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "from=metrics"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "3000"),
    ];
    let flags = [
        ("--otlp.endpoint", "http://flag:4"),
        ("--otlp.timeout", "4s"),
        ("--otlp.interval", "4s"),
        ("--otlp.compression", "gzip"),
        ("--otlp.headers", "from=flag"),
        ("--otlp.temporality", "cumulative"),
    ];
    let seen = |flags: &[(&'static str, &str)], variables: &[(&str, &str)]| -> Seen {
        let settings = read(flags, variables, file).unwrap().push.unwrap();
        let headers: Vec<String> =
            settings.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (
            settings.endpoint.to_string(),
            settings.timeout.as_secs(),
            settings.shape.interval.as_secs(),
            settings.gzip,
            headers.join(","),
            settings.shape.temporality,
        )
    };
    let of = |endpoint: &str, timeout, interval, gzip, headers: &str, temporality| {
        (endpoint.to_owned(), timeout, interval, gzip, headers.to_owned(), temporality)
    };
    let both = [&all[..], &metrics[..]].concat();
    assert_eq!(
        seen(&[], NONE),
        of("http://file:1", 1, 1, false, "from=file,other=kept", Temporality::LowMemory)
    );
    assert_eq!(
        seen(&[], &all),
        of("http://all:2/v1/metrics", 2, 1, true, "from=all", Temporality::LowMemory)
    );
    assert_eq!(
        seen(&[], &both),
        of("http://metrics:3/path", 3, 3, false, "from=metrics", Temporality::Delta)
    );
    assert_eq!(
        seen(&flags, &both),
        of("http://flag:4/v1/metrics", 4, 4, true, "from=flag", Temporality::Cumulative)
    );
}

#[test]
fn endpoints_by_protocol() {
    for (protocol, text, is_whole, insecure, expected) in [
        ("http", "http://a:4318", false, false, "http://a:4318/v1/metrics"),
        ("http", "https://a/otlp/", false, false, "https://a/otlp/v1/metrics"),
        ("http", "https://a/otlp?key=secret", false, false, "https://a/otlp/v1/metrics"),
        ("http", "http://a:4318/own", true, false, "http://a:4318/own"),
        ("http", "http://[::1]:4318", true, false, "http://[::1]:4318"),
        ("grpc", "http://a:4317", false, false, "http://a:4317"),
        ("grpc", "https://a:4317/", false, true, "https://a:4317"),
        ("grpc", "a:4317", false, false, "https://a:4317"),
        ("grpc", "a:4317", false, true, "http://a:4317"),
    ] {
        let protocol = if protocol == "grpc" { Protocol::Grpc } else { Protocol::Http };
        let endpoint = Endpoint::parse(text, protocol, is_whole, insecure).unwrap();
        assert_eq!(endpoint.to_string(), expected, "{text}");
        assert_eq!(endpoint.is_tls(), expected.starts_with("https"), "{text}");
    }
}

/// What is wrong is said with the name of where it stands, and a way out.
#[test]
fn what_is_wrong_is_named() {
    let with = |name: &'static str, text: &'static str| {
        read(&[], &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"), (name, text)], "").unwrap_err()
    };
    for (name, text, expected) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grcp", "`grcp` is not known here\n  hint: did you mean `grpc`?"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            "http/json",
            "`http/json` is not known here\n  hint: it is one of `grpc`, `http/protobuf`",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "deltas",
            "`deltas` is not known here\n  hint: did you mean `delta`?",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "exponential",
            "`exponential` is not known here\n  hint: it is one of `base2_exponential_bucket_histogram`, \
             `explicit_bucket_histogram`",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=b,secret",
            "entry 2 has no `=`: expected `KEY=VALUE`, separated by commas",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c", "`a b` is not the name of a header"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "a=%0a",
            "the value of the header `a` has a character that no header can have",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz", "the value of `a` has a wrong `%`: `%25` is one"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Content-Type=x", "the header `Content-Type` belongs to the protocol"),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "`10s` is no time: expected a whole number of milliseconds: `10000`",
        ),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "it must be a millisecond or more"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "99999999999", "it is longer than a day"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip", "`zip` is not known here\n  hint: did you mean `gzip`?"),
        (
            "OTEL_EXPORTER_OTLP_INSECURE",
            "yes",
            "`yes` is not known here\n  hint: it is one of `true`, `false`",
        ),
        ("OTEL_RESOURCE_ATTRIBUTES", "a", "entry 1 has no `=`: expected `KEY=VALUE`, separated by commas"),
        (
            "OTEL_METRICS_EXPORTER",
            "promtheus",
            "`promtheus` is not known here\n  hint: did you mean `prometheus`?",
        ),
        ("OTEL_METRICS_EXPORTER", "none,otlp", "`none` does not go with others"),
        (
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "/c.pem",
            "a client's certificate needs its key: give `--otlp.client-key` or `OTEL_EXPORTER_OTLP_CLIENT_KEY` as well",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY",
            "/k.pem",
            "a client's key needs its certificate: give `--otlp.client-certificate` or \
             `OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE` as well",
        ),
    ] {
        assert_eq!(with(name, text), format!("error: `{name}`: {expected}"));
    }
    let endpoint = |text: &str, protocol: &str| {
        let flags = [("--otlp.endpoint", text), ("--otlp.protocol", protocol)];
        read(&flags, NONE, "").unwrap_err()
    };
    let http = "\n  hint: an endpoint is a URL such as `http://collector:4318`";
    let grpc = "\n  hint: an endpoint of gRPC is a URL such as `http://collector:4317`, without a path";
    for (text, protocol, expected) in [
        ("collector", "http/protobuf", format!("`collector` has no `http://` or `https://`{http}")),
        ("ftp://a", "http/protobuf", format!("HTTP has no scheme `ftp`: it is `http` or `https`{http}")),
        ("unix:///run/x", "grpc", format!("`unix:///run/x` is no URL: invalid format{grpc}")),
        ("tcp://a:1", "grpc", format!("gRPC has no scheme `tcp`: it is `http` or `https`{grpc}")),
        ("http://a:1/path", "grpc", format!("`http://a:1/path` has a path or a query, which gRPC has none of{grpc}")),
        ("http://a:99999", "http/protobuf", format!("`99999` is no port{http}")),
        ("http://a b", "http/protobuf", format!("`http://a b` is no URL: invalid uri character{http}")),
        (
            "http://me:secret@a",
            "http/protobuf",
            "a URL with a user and a password is not taken\n  hint: give them as a header: `authorization=Basic%20…`"
                .into(),
        ),
    ] {
        assert_eq!(endpoint(text, protocol), format!("error: `--otlp.endpoint`: {expected}"));
    }
    // In a file: with its place, and the line where no secret can be in it.
    let file = "otlp:\n  endpoint: http://a:1\n  temporality: deltas\n";
    assert_eq!(
        read(&[], NONE, file).unwrap_err(),
        "error: `temporality`: `deltas` is not known here\n --> site.yaml:3:16\n3 |   temporality: deltas\n  |                ^^^^^^ did you mean \
         `delta`?\n"
    );
    let file = "otlp:\n  endpoint: http://a:1\n  headers: {'a b': s3cret}\n";
    assert_eq!(
        read(&[], NONE, file).unwrap_err(),
        "error: `headers` (site.yaml:3:13): `a b` is not the name of a header"
    );
}

/// Neither an error nor what is printed of settings has a password.
#[test]
fn secrets_are_not_repeated() {
    let of = |variables: &[(&str, &str)], file: &str| match read(&[], variables, file) {
        Ok(exports) => format!("{exports:?}"),
        Err(error) => error,
    };
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1?key=s3cret");
    for (variables, file) in [
        (&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer s3cret\u{7}")][..], ""),
        (&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer s3cret")], ""),
        (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], ""),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s3cret@a:1")], ""),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "a?key=s3cret")], ""),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a b?key=s3cret")], ""),
        (NONE, "otlp: {endpoint: 'http://me:s3cret@a:1'}"),
        (NONE, "otlp: {endpoint: 'http://a:1', headers: {authorization: \"s3cret\\x07\"}}"),
        (NONE, "otlp: {metrics_endpoint: 'a/s3cret?key=s3cret'}"),
    ] {
        let text = of(variables, file).replace("`a/s3cret`", "");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn proxies() {
    let of = |variables: &[(&str, &str)]| {
        let all = [&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318")], variables].concat();
        read(&[], &all, "").unwrap().push.unwrap().proxy
    };
    assert!(of(NONE).url.is_none());
    assert!(push(&[("HTTPS_PROXY", "nonsense://")]).proxy.url.is_none(), "it is not asked without TLS");
    let proxy = of(&[("HTTPS_PROXY", "proxy:3128"), ("no_proxy", "10.0.0.0/8,.corp")]);
    assert_eq!((proxy.url.as_deref(), &*proxy.except), (Some("http://proxy:3128"), "10.0.0.0/8,.corp"));
    let proxy = of(&[("ALL_PROXY", "http://other:1"), ("https_proxy", "http://me:s3cret@proxy:1")]);
    assert_eq!(proxy.url.as_deref(), Some("http://me:s3cret@proxy:1"));
    assert!(!format!("{proxy:?}").contains("s3cret"));
    for wrong in ["socks5://me:s3cret@proxy:1", "http://me:s3cret@a b", "https://s3cret"] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:1"), ("HTTPS_PROXY", wrong)];
        let error = read(&[], &variables, "").unwrap_err();
        assert_eq!(
            error,
            "error: `HTTPS_PROXY`: it is not the address of a proxy of HTTP\n  hint: `http://proxy:3128`"
        );
    }
}

/// 0 is no limit of time, as the specification has it; what is not `true` does not disable.
#[test]
fn values_of_the_specification() {
    let settings = push(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "0"), ("OTEL_METRIC_EXPORT_TIMEOUT", "0")]);
    assert_eq!((settings.timeout, settings.push_timeout), (LONGEST, LONGEST));
    push(&[("OTEL_SDK_DISABLED", "1")]);
    let exports = read(&[], &[("OTEL_METRICS_EXPORTER", "logging")], "").unwrap();
    assert!(exports.console.is_some() && !exports.serve);
}

#[test]
fn resources_by_strength() {
    let file = "otlp:\n  endpoint: http://a:1\n  service_name: from-file\n  resource: {service.name: x, zone: file, \
                rack: r1}\n";
    let of = |flags: &[(&'static str, &str)], variables: &[(&str, &str)]| {
        let all: std::collections::BTreeMap<String, String> =
            read(flags, variables, file).unwrap().resource.into_iter().collect();
        all.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    };
    assert_eq!(of(&[], NONE), "rack=r1,service.name=from-file,zone=file");
    let variables =
        [("OTEL_RESOURCE_ATTRIBUTES", "zone=a%2Cb, service.name=attribute,"), ("OTEL_SERVICE_NAME", "own")];
    assert_eq!(of(&[], &variables), "rack=r1,service.name=own,zone=a,b");
    assert_eq!(of(&[("--otlp.resource", "zone=flag")], &variables), "rack=r1,service.name=own,zone=flag");
    assert_eq!(
        of(&[("--otlp.resource", "service.name=flag")], &variables),
        "rack=r1,service.name=flag,zone=a,b"
    );
    assert_eq!(of(&[], &variables[..1]), "rack=r1,service.name=attribute,zone=a,b");
}
