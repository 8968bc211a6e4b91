//! Whatever the text, the loader answers: a lab, or mistakes that point into the text.

use datapath::lab::{LabError, load};
use proptest::prelude::*;

const LABS: [&str; 4] = [
    include_str!("../labs/full.yaml"),
    include_str!("../labs/derived.yaml"),
    include_str!("../labs/kernel.yaml"),
    include_str!("../labs/base.yaml"),
];

/// Texts a mutation puts in: YAML's own, and values that are wrong in many places.
const TOKENS: [&str; 28] = [
    "",
    "\n",
    "  ",
    ":",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "!!binary ",
    "|",
    "'",
    "\"",
    "#",
    "\t",
    "null",
    "~",
    "-1",
    "0",
    "99999999999999999999",
    "10.0.4.20",
    "0.0.0.0/0",
    "<<: ",
    "é",
    "\u{0}",
    "\r",
];

/// Loads `text`; what is wrong must be printable and point somewhere.
fn answer(text: &str) {
    if let Err(error) = load(text, "lab.yaml") {
        let LabError { problems, .. } = &error;
        assert!(!problems.is_empty());
        assert!(problems.is_sorted_by_key(|problem| problem.at));
        for problem in problems {
            assert!(problem.at.line >= 1 && problem.at.column >= 1);
            assert!(!problem.message.is_empty());
            assert!(!problem.excerpt.contains('\n'));
        }
        assert!(error.to_string().starts_with("lab.yaml:"));
    }
}

#[test]
fn deep_and_long() {
    for open in ["[", "{a: ", "- ", "? ", "&a [*a, "] {
        answer(&open.repeat(100_000));
        answer(&format!("vpc: {}", open.repeat(100_000)));
    }
    answer(&"a".repeat(1_000_000));
    answer(&format!("vpc: {{cidr: {}}}", "9".repeat(1_000_000)));
    let nested: String = (0..5000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    answer(&nested);
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n".repeat(30);
    answer(&bomb);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        answer(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_text(text in "[ -~\\n]{0,200}") {
        answer(&text);
    }

    #[test]
    fn mutated_labs(
        lab in proptest::sample::select(LABS.as_slice()),
        edits in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0..12_usize, proptest::sample::select(TOKENS.as_slice())),
            1..6,
        ),
    ) {
        let mut text: Vec<char> = lab.chars().collect();
        for (at, cut, token) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + cut).min(text.len());
            text.splice(at..end, token.chars());
        }
        answer(&text.into_iter().collect::<String>());
    }

    #[test]
    fn exchanged_values(
        lab in proptest::sample::select(LABS.as_slice()),
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
    ) {
        let words: Vec<&str> =
            lab.split([' ', '\n', ',', '{', '}', '[', ']']).filter(|w| !w.is_empty()).collect();
        let (from, to) = (words[from.index(words.len())], words[to.index(words.len())]);
        answer(&lab.replace(from, to));
    }
}
