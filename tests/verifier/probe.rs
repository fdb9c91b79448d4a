//! Random probes of this kernel's own attach points, as YAML.

use super::walk::{End, Walker, Way};
use crate::support::{expression::Grammar, random::Random};
use std::fmt::Write;
use tapster::kernel::Kernel;
use tapster_ebpf::{attach, btf::Btf, point::AttachPoint, tracefs::Tracepoints};

/// Most rounds of a walk: before Linux 6.9 the verifier goes through each of them.
const EACH_LIMIT: usize = 32;

/// Attach points by category.
#[derive(Debug)]
pub(crate) struct Points(Vec<Vec<(String, String)>>);

impl Points {
    pub(crate) fn of(kernel: &Kernel) -> Self {
        let mut all = kernel.all();
        all.sort();
        let mut categories: Vec<Vec<(String, String)>> = Vec::new();
        for (category, name) in all {
            match categories.last_mut().filter(|known| known[0].0 == category) {
                Some(known) => known.push((category, name)),
                None => categories.push(vec![(category, name)]),
            }
        }
        Self(categories)
    }

    /// Any category alike: most tracepoints are system calls.
    fn pick(&self, random: &mut Random) -> AttachPoint {
        let category = &self.0[random.below(self.0.len())];
        let (category, name) = category[random.below(category.len())].clone();
        if random.one_in(3) {
            attach::tracepoint(&category, &name)
        } else {
            attach::raw_tracepoint((!random.one_in(4)).then_some(&category), &name)
        }
    }
}

/// One probe; the same for the same seed on the same kernel.
pub(crate) fn probe(seed: u64, kernel: &Kernel, btf: &Btf, points: &Points) -> Option<String> {
    let mut random = Random(seed);
    if random.one_in(5) {
        return several(seed, random, kernel, btf, points);
    }
    let (at, walker) = event(&mut random, kernel, btf, points)?;
    let pair = if random.one_in(3) { Some(event(&mut random, kernel, btf, points)?) } else { None };
    let mut yaml = format!("probes:\n  - name: p{seed}\n");
    let rows = random.pick(&["auto", "auto", "per_cpu", "shared"]);
    let note = if random.one_in(3) { Some(event(&mut random, kernel, btf, points)?) } else { None };
    let mut writer = Writer { random, walker, names: Vec::new(), has_stack: false };
    let state = note.map(|(at, own)| writer.state(&mut yaml, &at, own)).unwrap_or_default();
    writer.walker.roots.extend(state.iter().cloned());
    match pair {
        None => {
            let _ = writeln!(yaml, "    at: \"{at}\"");
            writer.lets(&mut yaml);
            writer.filter(&mut yaml, "    ");
            if !writer.each(&mut yaml, "    ") && !state.is_empty() {
                writer.changes(&mut yaml, "    ");
            }
        }
        Some((end, end_walker)) => {
            yaml += "    max_inflight: 64\n";
            let common = writer.random.pick(&["tid", "pid", "[tid, comm]", "curtask"]).to_owned();
            let own = (writer.random.one_in(2), writer.way(End::Number), end_walker.way(&mut writer.random));
            let (start_key, end_key) = match own {
                (true, start, end) if end.end != End::Text => (start.text, end.text),
                _ => (common.clone(), common),
            };
            let quote = |key: &str| if key.starts_with('[') { key.to_owned() } else { format!("'{key}'") };
            let _ = writeln!(yaml, "    start:\n      at: \"{at}\"\n      key: {}", quote(&start_key));
            if writer.random.one_in(3) {
                yaml += "      first: true\n";
            }
            let count = writer.random.below(4);
            let mut saved = Vec::new();
            if count > 0 {
                yaml += "      save:\n";
            }
            for index in 0..count {
                let (text, end) = writer.any();
                let _ = writeln!(yaml, "        s{index}: '{text}'");
                saved.push(Way { text: format!("start.s{index}"), end });
            }
            writer.filter(&mut yaml, "      ");
            if !state.is_empty() {
                writer.changes(&mut yaml, "      ");
            }
            writer.walker = end_walker;
            writer.walker.roots.extend(state.iter().cloned());
            let _ = writeln!(yaml, "    end:\n      at: \"{end}\"\n      key: {}", quote(&end_key));
            writer.walker.roots.extend(saved);
            writer.walker.roots.push(Way { text: "duration".into(), end: End::Number });
            writer.filter(&mut yaml, "      ");
            if !writer.each(&mut yaml, "      ") && !state.is_empty() {
                writer.changes(&mut yaml, "      ");
            }
        }
    }
    Some(writer.finish(yaml, rows))
}

/// A probe of several events that feed its metrics, or of the time between events.
fn several(seed: u64, mut random: Random, kernel: &Kernel, btf: &Btf, points: &Points) -> Option<String> {
    let is_between = random.one_in(2);
    let count = 1 + random.below(3);
    let events: Option<Vec<_>> = (0..count).map(|_| event(&mut random, kernel, btf, points)).collect();
    let rows = random.pick(&["auto", "auto", "per_cpu", "shared"]);
    let key = random.pick(&["tid", "pid", "[tid, comm]", "0"]);
    let form = if is_between { "max_inflight: 64\n    between" } else { "events" };
    let mut yaml = format!("probes:\n  - name: p{seed}\n    {form}:\n");
    let walker = Walker { btf, roots: Vec::new() };
    let mut writer = Writer { random, walker, names: Vec::new(), has_stack: false };
    for (at, walker) in events? {
        writer.walker = walker;
        let _ = writeln!(yaml, "      - at: \"{at}\"");
        let (number, text) = (writer.number(), writer.text());
        if writer.random.one_in(4) {
            yaml += "        optional: true\n";
        }
        if is_between {
            let _ = writeln!(
                yaml,
                "        key: {key}\n        save: {{ number: '({number}) + 0', text: 'str({text}, 20)' }}"
            );
        } else {
            let which = writer.number();
            let _ = writeln!(
                yaml,
                "        let: {{ own: '({number}) + 0', text: 'str({text}, 20)' }}\n        labels: {{ which: '{which}' }}"
            );
        }
        writer.filter(&mut yaml, "        ");
    }
    let common: &[(&str, End)] = if is_between {
        &[("start.number", End::Number), ("start.text", End::Text), ("duration", End::Number)]
    } else {
        &[("own", End::Number), ("text", End::Text)]
    };
    let task = writer.walker.roots.pop();
    let common = common.iter().map(|(text, end)| Way { text: (*text).to_owned(), end: *end });
    writer.walker.roots = common.chain(task).collect();
    Some(writer.finish(yaml, rows))
}

impl Writer<'_> {
    /// Labels, metrics and what follows from them.
    fn finish(mut self, mut yaml: String, rows: &str) -> String {
        self.labels(&mut yaml);
        self.metrics(&mut yaml);
        if yaml.contains("    state:") {
            // Each is read, which else would be a mistake.
            yaml += "      - counter: all_total\n        value: 'state.c + state.t + state.k[tid] + (state.s == comm) + (state.ts == comm)'\n        where: 'state.ks[tid][comm] == comm'\n";
        }
        // What could do nothing is refused: a limit of one series, shared rows of what each CPU keeps.
        if yaml.contains("    labels:") {
            yaml += "    max_series: 64\n";
        }
        let has_copies = yaml.contains("gauge: ") || yaml.contains("max: m");
        let _ = writeln!(yaml, "    rows: {}", if has_copies && rows == "shared" { "auto" } else { rows });
        yaml
    }
}

fn event<'a>(
    random: &mut Random,
    kernel: &Kernel,
    btf: &'a Btf,
    points: &Points,
) -> Option<(AttachPoint, Walker<'a>)> {
    let at = points.pick(random);
    let request = attach::ResolveOptions { stacks: false, whole: false, most: 1 };
    let resolved = attach::resolve(&at, request, &kernel.target()).ok()?.into_iter().next()?;
    Some((at, Walker::new(btf, &resolved)))
}

struct Writer<'a> {
    random: Random,
    walker: Walker<'a>,
    /// `let` names so far.
    names: Vec<Way>,
    /// Whether one of them, `stack`, is a stack.
    has_stack: bool,
}

impl<'a> Writer<'a> {
    fn any_way(&mut self) -> Way {
        if !self.names.is_empty() && self.random.one_in(4) {
            return self.names[self.random.below(self.names.len())].clone();
        }
        let way = self.walker.way(&mut self.random);
        if self.random.one_in(12) && way.end == End::Number {
            return Way { text: format!("({}.no_such_member ?? {})", way.text, way.text), ..way };
        }
        way
    }

    fn way(&mut self, end: End) -> Way {
        for _ in 0..30 {
            let way = self.any_way();
            if way.end == end
                || matches!((end, way.end), (End::Number, End::Struct(_)) if self.random.one_in(3))
            {
                return way;
            }
        }
        let text = if end == End::Text { "comm" } else { "tid" };
        Way { text: text.into(), end }
    }

    fn grammar(&mut self) -> Grammar {
        let numbers = (0..4).map(|_| self.way(End::Number).text).collect();
        let mut texts: Vec<String> = (0..2).map(|_| self.way(End::Text).text).collect();
        texts.push("comm".into());
        let strings: Vec<String> = (0..20)
            .map(|_| self.any_way())
            .filter(|way| way.end == End::String)
            .map(|way| way.text)
            .take(2)
            .collect();
        Grammar::over(Random(self.random.word()), numbers, texts, strings)
    }

    fn number(&mut self) -> String {
        let depth = self.random.below(4);
        if depth == 0 { self.way(End::Number).text } else { self.grammar().number(depth) }
    }

    fn text(&mut self) -> String {
        let depth = self.random.below(2);
        self.grammar().text(depth)
    }

    /// A number, text or pointer.
    fn any(&mut self) -> (String, End) {
        match self.random.below(4) {
            0 => (self.text(), End::Text),
            1 => {
                let way = self.any_way();
                (way.text, way.end)
            }
            _ => (self.number(), End::Number),
        }
    }

    fn lets(&mut self, yaml: &mut String) {
        let count = self.random.below(4);
        self.has_stack = self.random.one_in(6);
        if count > 0 || self.has_stack {
            *yaml += "    let:\n";
        }
        if self.has_stack {
            // The only way to have one beside a walk.
            let _ = writeln!(yaml, "      stack: {}", self.random.pick(&["kstack(20)", "ustack"]));
        }
        for index in 0..count {
            let (text, end) = self.any();
            let _ = writeln!(yaml, "      l{index}: '{text}'");
            self.names.push(Way { text: format!("l{index}"), end });
        }
    }

    fn filter(&mut self, yaml: &mut String, indent: &str) {
        if self.random.one_in(2) {
            let first = self.number();
            let mut more =
                if self.random.one_in(2) { format!(" && ({})", self.number()) } else { String::new() };
            if self.random.one_in(6) {
                more += &format!(" && {}", self.cgroup());
            }
            let _ = writeln!(yaml, "{indent}where: '({first}){more}'");
        }
    }

    /// A choice of cgroups.
    fn cgroup(&mut self) -> String {
        let task = self.random.pick(&["", "", "curtask, "]);
        let pattern = self.random.pick(&["/kubepods/*", "/*/*", "/{a,b}?/c/[!d]*x*", "/system.slice"]);
        format!("cgroup_matches({task}\"{pattern}\")")
    }

    /// State of every kind, and an event that writes it; how it is read.
    fn state(&mut self, yaml: &mut String, at: &AttachPoint, walker: Walker<'a>) -> Vec<Way> {
        let default = self.random.pick(&["0", "-1", "77", "0xffff_ffff_ffff"]).to_owned();
        let _ = write!(
            yaml,
            "    state:\n      c: {{ per: cpu, default: {default} }}\n      s: {{ per: cpu }}\n      t: {{ per: task, default: {default} }}\n      ts: {{ per: task }}\n      k: {{ per: key, timeout: 1m, default: {default} }}\n      ks: {{ per: key }}\n"
        );
        let own = std::mem::replace(&mut self.walker, walker);
        let _ = writeln!(yaml, "    note:\n      at: \"{at}\"");
        self.filter(yaml, "      ");
        self.changes(yaml, "      ");
        self.walker = own;
        let key = self.way(End::Number).text;
        let way = |text: String, end| Way { text, end };
        vec![
            way("state.c".into(), End::Number),
            way("state.t".into(), End::Number),
            way("state.s".into(), End::Text),
            way("state.ts".into(), End::Text),
            way(format!("state.k[{key}]"), End::Number),
            way("state.ks[tid][comm]".into(), End::Text),
        ]
    }

    /// What an event does to that state.
    fn changes(&mut self, yaml: &mut String, indent: &str) {
        let (key, other) = (self.way(End::Number).text, self.way(End::Number).text);
        let values = [
            ("c".to_owned(), self.number()),
            ("s".to_owned(), self.text()),
            ("t".to_owned(), self.number()),
            ("ts".to_owned(), self.text()),
            (format!("k[{key}]"), self.number()),
            (format!("ks[{other}][comm]"), self.text()),
        ];
        let _ = writeln!(yaml, "{indent}set:");
        for (name, value) in values {
            let _ = writeln!(yaml, "{indent}  '{name}': '{value}'");
        }
        let added = self.number();
        let _ =
            writeln!(yaml, "{indent}add:\n{indent}  'k[{other}]': '{added}'\n{indent}  c: 1\n{indent}  t: 1");
        let _ = writeln!(yaml, "{indent}clear: ['ks[{key}][comm]', s, ts]");
    }

    /// Whether it has a walk.
    fn each(&mut self, yaml: &mut String, indent: &str) -> bool {
        if !self.random.one_in(4) {
            return false;
        }
        let Some((from, next)) = self.walker.list(&mut self.random) else { return false };
        let limit = 1 + self.random.below(EACH_LIMIT);
        let _ = write!(
            yaml,
            "{indent}each: {{ name: item, from: '{}', next: item.{next}, limit: {limit}",
            from.text
        );
        self.walker.roots.push(Way { text: "item".into(), ..from });
        if self.random.one_in(3) {
            let (size, within) = (self.way(End::Number).text, self.random.pick(&["100", "tid"]).to_owned());
            let _ = write!(yaml, ", size: '{size}', within: '{within}'");
        }
        *yaml += " }\n";
        true
    }

    fn labels(&mut self, yaml: &mut String) {
        let count = self.random.below(5);
        if count > 0 || self.has_stack {
            *yaml += "    labels:\n";
        }
        if self.has_stack {
            *yaml += "      stack: stack\n";
        }
        for index in 0..count {
            let (mut text, end) = self.any();
            if end != End::Text && self.random.one_in(5) {
                let _ = writeln!(yaml, "      n{index}: {{ value: '{text}', as: usym }}");
                continue;
            }
            if self.random.one_in(6) {
                let stack = ["kstack", "ustack", "kstack(7)", "ustack(20)", "kstack(127)"];
                self.random.pick(&stack).clone_into(&mut text);
                if self.random.one_in(3) {
                    text = format!("{} ? {text} : 0", self.number());
                }
            }
            let _ = writeln!(yaml, "      n{index}: '{text}'");
        }
    }

    fn metrics(&mut self, yaml: &mut String) {
        *yaml += "    metrics:\n";
        for index in 0..=self.random.below(5) {
            let value = self.number();
            let head = match self.random.below(9) {
                0 => format!("counter: m{index}_total"),
                8 => format!("sum: m{index}\n        value: '{value}'"),
                1 => format!("counter: m{index}_total\n        value: '{value}'"),
                2 => format!("gauge: m{index}\n        value: '{value}'"),
                3 => format!(
                    "max: m{index}\n        window: {}s\n        value: '{value}'",
                    1 + self.random.below(100)
                ),
                _ => {
                    let unit =
                        self.random.pick(&["none", "ns", "us", "ms", "sectors", "kib", "bytes", "1/2048"]);
                    format!(
                        "histogram: m{index}\n        unit: {unit}\n        value: '{value}'\n{}",
                        self.buckets(unit)
                    )
                }
            };
            let _ = writeln!(yaml, "      - {}", head.trim_end());
            if self.random.one_in(4) {
                let mut filter = self.number();
                if self.random.one_in(4) {
                    filter = format!("({filter}) + {}", self.cgroup());
                }
                let _ = writeln!(yaml, "        where: '{filter}'");
            }
        }
    }

    fn buckets(&mut self, unit: &str) -> String {
        let random = &mut self.random;
        match random.below(5) {
            0 => String::new(),
            1 => {
                let most = if random.one_in(4) { 200 } else { 20 };
                let count = 1 + random.below(most);
                let step = 1 + random.below(1000);
                let first = if random.one_in(3) { -5 } else { 1 };
                let bounds: Vec<String> = (0..i64::try_from(count).unwrap())
                    .map(|index| (first + index * i64::try_from(step).unwrap()).to_string())
                    .collect();
                format!("        buckets: [{}]\n", bounds.join(", "))
            }
            2 => format!(
                "        buckets: {{ linear: {{ start: {}, width: {}, count: {} }} }}\n",
                random.below(100),
                1 + random.below(1000),
                1 + random.below(100)
            ),
            _ => {
                let schema = random.below(5);
                let (least, most) = if matches!(unit, "ns" | "us" | "ms") { (-8, 6) } else { (10, 40) };
                let min = least + i32::try_from(random.below(6)).unwrap();
                let max =
                    if random.one_in(3) { most } else { min + 1 + i32::try_from(random.below(8)).unwrap() };
                format!(
                    "        buckets: {{ exponential: {{ schema: {schema}, min: {min}, max: {max} }} }}\n"
                )
            }
        }
    }
}
