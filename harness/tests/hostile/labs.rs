//! Lab files with one kind of damage each.

use datapath::lab::load;

use crate::lab::{assert_located, check};

const LABS: [&str; 2] = [
    include_str!("../../../scenarios/article-slb.yaml"),
    include_str!("../../../datapath/tests/common/lab.yaml"),
];

/// The mistakes in a text that is no lab.
fn mistakes(text: &str) -> String {
    let error = load(text, "lab.yaml").expect_err("no lab");
    assert_located(text, &error);
    error.to_string()
}

#[test]
fn cut_at_every_byte() {
    for lab in LABS {
        (0..lab.len()).for_each(|len| check(&lab.as_bytes()[..len]));
    }
}

#[test]
fn every_byte_flipped() {
    for lab in LABS {
        for at in 0..lab.len() {
            for bit in [0x01, 0x20, 0x80] {
                let mut bytes = lab.as_bytes().to_vec();
                bytes[at] ^= bit;
                check(&bytes);
            }
        }
    }
}

#[test]
fn numbers_that_are_too_large() {
    for number in ["4294967296", "18446744073709551616", "1e999", "-1", "0x10", ".inf", "1_000"] {
        let said = mistakes(&LABS[1].replace("vid: 101", &format!("vid: {number}")));
        assert!(said.contains("vid: expected a whole number from 1 to 4094"), "{said}");
    }
    let long = "9".repeat(1_000_000);
    let said = mistakes(&LABS[1].replace("vid: 101", &format!("vid: {long}")));
    assert!(said.len() < 1_000, "a long value is cut short");
}

#[test]
fn deep_nesting() {
    for open in ["[", "{a: ", "- ", "? ", "&a [*a, "] {
        for key in ["", "vpc: ", "pods: "] {
            mistakes(&format!("{key}{}", open.repeat(100_000)));
        }
    }
}

/// A few lines that stand for a thousand million nodes.
#[test]
fn a_billion_laughs() {
    let mut text = "vpc: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..10 {
        let aliases = vec![format!("*l{}", n - 1); 10].join(", ");
        text += &format!("k{n}: &l{n} [{aliases}]\n");
    }
    mistakes(&text);
    // The same where a list is expected, so that nothing but the size is wrong at first.
    let pods = text.replace("vpc:", "pods:");
    mistakes(&pods);
    let of_groups = "vpc:\n  cidr: 10.0.0.0/8\n  routes:\n".to_owned()
        + "    - &r {dst: 10.1.0.0/16, nextHop: x}\n"
        + &"    - *r\n".repeat(10_000);
    mistakes(&of_groups);
}

#[test]
fn scalars_of_ten_megabytes() {
    let long = "a".repeat(10_000_000);
    for text in [
        long.clone(),
        format!("{long}: 1"),
        format!("profile: {long}"),
        format!("profile: \"{long}\""),
        format!("profile: |\n  {long}"),
        format!("# {long}"),
        " ".repeat(10_000_000),
        "\n".repeat(10_000_000),
    ] {
        let said = mistakes(&text);
        assert!(said.len() < 1_000, "{} bytes about {}", said.len(), &text[..20]);
    }
}

#[test]
fn encodings_and_line_ends() {
    let lab = LABS[1];
    for sound in [format!("\u{feff}{lab}"), lab.replace('\n', "\r\n"), lab.replace('\n', "\r")] {
        load(&sound, "lab.yaml").expect("the same lab");
    }
    for mark in ['\0', '\u{1}', '\u{7f}', '\u{fffe}'] {
        for at in [0, 10, lab.len() - 2] {
            let mut text = lab.to_owned();
            text.insert(at, mark);
            mistakes(&text);
        }
    }
    // As an editor of another system saves it; read byte by byte it is full of NULs.
    let wide: Vec<u8> = lab.encode_utf16().flat_map(u16::to_le_bytes).collect();
    mistakes(&String::from_utf8_lossy(&[&[0xff, 0xfe], &wide[..]].concat()));
}

#[test]
fn keys_given_twice() {
    for (key, line) in [("seed", "seed: 1\n"), ("vpc", "vpc: {}\n")] {
        let said = mistakes(&format!("{}\n{line}{line}", LABS[1]));
        assert!(said.contains(&format!("the key `{key}` is given twice")), "{said}");
    }
    let inner = LABS[1].replace("cidr: 10.0.0.0/16", "cidr: 10.0.0.0/16\n  cidr: 10.0.0.0/16");
    assert!(mistakes(&inner).contains("lab.yaml:3:3: the key `cidr` is given twice"));
    let group = LABS[1].replace("sg-open: {", "sg-open: {}\n    sg-open: {");
    assert!(mistakes(&group).contains("sg-open"), "{}", mistakes(&group));
}
