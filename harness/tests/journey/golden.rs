//! What `trunkline run S8` prints, word for word. After an intended change,
//! `TRUNKLINE_BLESS=1 cargo test -p harness --test journey_golden` writes the files anew; read
//! the difference before committing it.

use std::fs;
use std::path::Path;

use harness::journey::Style;
use harness::memory::Memory;
use harness::scenario::{Wanted, cases, find, full, run};

fn check(scenario: &str, wanted: &Wanted, file: &str) {
    let case = cases(&find(scenario).unwrap(), wanted, None).unwrap().remove(0);
    let text = full(&run(&Memory, case).unwrap(), Style::plain());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    if std::env::var_os("TRUNKLINE_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{}", path.display());
}

#[test]
fn s8() {
    check("S8", &Wanted::Itself, "S8.txt");
}

#[test]
fn s8_denied() {
    check("S8", &Wanted::Variant("mem2-in".into()), "S8-mem2-in.txt");
}

#[test]
fn s10() {
    check("S10", &Wanted::Itself, "S10.txt");
}
