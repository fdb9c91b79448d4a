//! Words joined to one text: those that the current program was started with, and those that an array of pointers leads to.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Case, Frame, compile, context},
    random::Random,
    world::World,
};
use tapster_ebpf::vm::Environment;

/// Where the words are, one behind the other.
const WORDS: u64 = 0x7f00_0010_0000;
/// Where an array of pointers to them is.
const LIST: u64 = 0x7f00_0020_0000;
const MM: u64 = 0xffff_8880_0200_0000;

fn compiled(labels: &str) -> Result<Case, String> {
    let head = format!("    at: \"rawtracepoint:test:untyped\"\n{labels}");
    compile(&Frame { head }, &["1".to_owned()], &World::new().target(2))
}

/// A machine whose program was started with these words.
fn machine(words: &[&[u8]]) -> Environment {
    let mut environment = Environment::default();
    let (mut area, mut list) = (Vec::new(), Vec::new());
    for word in words {
        list.extend((WORDS + u64::try_from(area.len()).unwrap()).to_le_bytes());
        area.extend(word.iter().chain(&[0]));
    }
    list.extend([0; 8]);
    let end = WORDS + u64::try_from(area.len()).unwrap();
    // What stands behind is no word.
    area.extend(b"PATH=/bin\0");
    let mut task = vec![0; 32];
    task[24..].copy_from_slice(&MM.to_le_bytes());
    let mut mm = vec![0; 32];
    mm[8..16].copy_from_slice(&WORDS.to_le_bytes());
    mm[16..24].copy_from_slice(&end.to_le_bytes());
    environment.kernel.extend([(environment.task, task), (MM, mm)]);
    environment.user.extend([(WORDS, area), (LIST, list)]);
    environment
}

/// The only row's key, which the evaluator gives as well.
fn key(case: &Case, environment: &Environment, argument: u64) -> Vec<u8> {
    let context = context(&[argument, 1]);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(environment, &context, 10), "{}", case.yaml);
    rows[0].0.clone()
}

/// The words as a label of a text of at most `limit` bytes with its NUL.
fn joined(words: &[&[u8]], limit: usize) -> Vec<u8> {
    let mut text = words.join(&b' ');
    text.truncate(limit - 1);
    text.resize(limit.next_multiple_of(8), 0);
    text
}

const BOTH: [&str; 2] = ["curtask", "arg0"];

#[test]
fn words_are_joined_by_blanks() {
    let lists: [&[&[u8]]; 10] = [
        &[b"ls", b"-l", b"/tmp"],
        &[b"one"],
        &[b""],
        &[b"", b""],
        &[b"a", b"", b"b", b""],
        &[b"eight888", b"sixteen_16_bytes", b"x"],
        &[b"1234567", b"1234567", b"1234567"],
        &[b"with blanks ", b"and\nlines", b"\xff\x80\x7f\x01"],
        &[b"a word that is longer than any text here, which has at most so many bytes", b"behind it"],
        &[],
    ];
    for limit in (2..=33).chain([63, 64, 65, 128]) {
        for from in BOTH {
            let case = compiled(&format!("    labels: {{ words: 'argv({from}, {limit})' }}\n")).unwrap();
            for words in lists {
                let found = key(&case, &machine(words), LIST);
                let limit = usize::try_from(limit).unwrap();
                assert_eq!(found, joined(words, limit), "{from} {limit} {words:?}");
            }
        }
    }
}

#[test]
fn random_words() {
    let cases: Vec<_> = [9, 24, 50]
        .into_iter()
        .flat_map(|limit| BOTH.map(|from| (limit, from)))
        .map(|(limit, from)| {
            (limit, compiled(&format!("    labels: {{ words: 'argv({from}, {limit})' }}\n")).unwrap())
        })
        .collect();
    let mut random = Random(7);
    for _ in 0..300 {
        let words: Vec<Vec<u8>> = (0..random.below(12))
            .map(|_| (0..random.below(20)).map(|_| random.word().to_le_bytes()[0].max(1)).collect())
            .collect();
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let environment = machine(&words);
        for (limit, case) in &cases {
            assert_eq!(key(case, &environment, LIST), joined(&words, *limit), "{limit} {words:?}");
        }
    }
}

#[test]
fn at_most_twenty_words_of_a_list() {
    let words: Vec<String> = (10..40).map(|word| word.to_string()).collect();
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let environment = machine(&words);
    for (from, count) in [("arg0", 20), ("curtask", 30)] {
        let case = compiled(&format!("    labels: {{ words: 'argv({from}, 128)' }}\n")).unwrap();
        assert_eq!(key(&case, &environment, LIST), joined(&words[..count], 128), "{from}");
    }
}

#[test]
fn what_cannot_be_read_ends_the_text() {
    let words: [&[u8]; 3] = [b"first", b"second", b"third"];
    let list = compiled("    labels: { words: 'argv(arg0, 32)' }\n").unwrap();
    let own = compiled("    labels: { words: 'argv(curtask, 32)' }\n").unwrap();
    // No array, an array that is not there, and a word that is not.
    let environment = machine(&words);
    for nowhere in [0, 0x18, 0xffff_8880_dead_0000] {
        assert_eq!(key(&list, &environment, nowhere), joined(&[], 32), "{nowhere:#x}");
    }
    let mut lacks_one = machine(&words);
    lacks_one.user.get_mut(&LIST).unwrap()[8..16].copy_from_slice(&0x18_u64.to_le_bytes());
    assert_eq!(key(&list, &lacks_one, LIST), joined(&words[..1], 32));
    // A word of the kernel is read where it is.
    let mut of_kernel = machine(&words);
    of_kernel.kernel.insert(0xffff_8880_0300_0000, b"kernel\0".to_vec());
    of_kernel.user.get_mut(&LIST).unwrap()[8..16].copy_from_slice(&0xffff_8880_0300_0000_u64.to_le_bytes());
    assert_eq!(key(&list, &of_kernel, LIST), joined(&[b"first", b"kernel", b"third"], 32));
    // A part of the words is not there; a task of the kernel has no memory of a program.
    let mut short = machine(&words);
    short.user.get_mut(&WORDS).unwrap().truncate(4);
    assert_eq!(key(&own, &short, LIST), joined(&[], 32));
    let mut of_kernel = machine(&words);
    of_kernel.kernel.get_mut(&of_kernel.task).unwrap()[16..].fill(0);
    assert_eq!(key(&own, &of_kernel, LIST), joined(&[], 32));
}

/// It is a text as any other: cut, compared, searched, chosen, named and kept.
#[test]
fn words_are_a_text() {
    let environment = machine(&[b"ls", b"-l", b"/tmp"]);
    let head = "    at: \"rawtracepoint:test:untyped\"\n    let: { words: argv(task), task: curtask, list: 'argv(arg0, 16)' }\n    labels: { a: 'str(words, 6)', b: 'arg1 ? list : comm' }\n    where: 'prefix(words, \"ls \")'\n";
    let head = head.replace("words: argv(task), task: curtask", "task: curtask, words: argv(task)");
    let expressions =
        ["words == list", "words == \"ls -l /tmp\"", "contains(words, \"-l\")", "contains(list, \"-x\")"];
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    let case = compile(&Frame { head }, &expressions, &World::new().target(2)).unwrap();
    let context = context(&[LIST, 1]);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
    assert_eq!(rows[0].0, [joined(&[b"ls", b"-l"], 6), joined(&[b"ls", b"-l", b"/tmp"], 16)].concat());
    assert_eq!(rows[0].1, [1, 1, 1, 0]);
}

#[test]
fn what_has_no_words_is_refused() {
    for (label, says) in [
        ("argv()", "`argv` takes the current task or an array of pointers"),
        ("argv(curtask, 16, 1)", "`argv` takes the current task or an array of pointers"),
        ("argv(64)", "and not a constant"),
        ("argv(comm)", "what `argv` takes must be a number, found a text"),
        ("argv((struct task_struct *)arg0)", "the words of a program are in its own memory"),
        ("argv(curtask, 1)", "the size of a text must be a constant from 2 to 256"),
        ("argv(curtask, 257)", "the size of a text must be a constant from 2 to 256"),
        ("argv(arg0, 129)", "the size of a text must be a constant from 2 to 128"),
        ("argv(curtask, arg0)", "the size of a text must be a constant from 2 to 256"),
        (
            "argv(curtask) == \"a text that is longer than sixty-four bytes, as many as there are without a number\"",
            "at most 63 bytes",
        ),
        ("join(arg0)", "did you mean `argv`?"),
    ] {
        let refused = compiled(&format!("    labels: {{ a: '{label}' }}\n")).unwrap_err();
        assert!(refused.contains(says), "{label}: {refused}");
    }
    // The longest fits beside another, and no three do.
    let longest = "    labels: { a: 'argv(curtask, 128)', b: 'argv(arg0, 64)' }\n";
    compiled(longest).unwrap();
    let error = compiled("    labels: { a: 'argv(arg0, 128)', b: 'argv(curtask, 128)' }\n");
    assert!(error.unwrap_err().contains("bytes of stack"));
}

/// In a walk they are read once, before it.
#[test]
fn words_belong_to_the_event() {
    let each = "    each: { name: item, from: '((struct node *)arg5)', next: item.next, limit: 2 }\n";
    for (lets, label, is_right) in [
        ("words: argv(curtask)", "words", true),
        ("words: argv(arg0)", "str(words, 8)", true),
        ("other: arg0", "argv(other)", false),
        ("words: argv(item.inner)", "words", false),
        ("other: arg0", "argv(curtask)", false),
    ] {
        let case = compiled(&format!("    let: {{ {lets} }}\n{each}    labels: {{ words: '{label}' }}\n"));
        let says = "words are read once for each event";
        assert_eq!(case.as_ref().err().is_none_or(|error| !error.contains(says)), is_right, "{label}");
        assert_eq!(case.is_ok(), is_right, "{label}");
    }
}
