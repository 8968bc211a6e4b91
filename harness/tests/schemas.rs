//! The forms that trunkline reads and writes, against the JSON Schemas in `docs/schema`.
//!
//! `TRUNKLINE_BLESS=1 cargo test -p harness --test schemas` writes those anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use harness::commands::schema::Form;
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What the command prints.
fn printed(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_trunkline")).args(args).output().expect("run");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_committed_schemas_are_what_the_command_prints() {
    for form in Form::value_variants() {
        let name = form.to_possible_value().expect("a name").get_name().to_owned();
        let path = repository(&format!("docs/schema/{name}.json"));
        let text = printed(&["schema", &name]);
        if std::env::var_os("TRUNKLINE_BLESS").is_some() {
            fs::write(&path, &text).expect("docs/schema is writable");
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is old; set TRUNKLINE_BLESS=1", path.display());
    }
    assert_eq!(printed(&["schema"]), printed(&["schema", "lab"]));
}

/// Why a document is not of a form; `None` where it is.
fn mistake(form: Form, document: &Value) -> Option<String> {
    let schema = form.schema();
    let validator = jsonschema::validator_for(schema.as_value()).expect("a schema");
    validator.validate(document).err().map(|error| format!("{}: {error}", error.instance_path()))
}

fn yaml(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("a file");
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_lab_schema_accepts_the_labs_and_no_unknown_key() {
    let labs = ["article", "article-slb"].map(|n| format!("scenarios/{n}.yaml"));
    let more = ["derived", "kernel", "base"].map(|n| format!("datapath/tests/labs/{n}.yaml"));
    for lab in labs.into_iter().chain(more) {
        let lab = yaml(&repository(&lab));
        assert_eq!(mistake(Form::Lab, &lab), None);
        for place in ["", "/vpc", "/nodes/0", "/nodes/0/eth0", "/pods/0"] {
            let mut wrong = lab.clone();
            wrong.pointer_mut(place).expect("a place")["unheardOf"] = json!(1);
            let said = mistake(Form::Lab, &wrong).expect("refused");
            assert!(said.contains("unheardOf"), "{said}");
        }
    }
    let lab = yaml(&repository("scenarios/article.yaml"));
    for (place, value) in [
        ("/profile", json!("terway-9")),
        ("/vpc/cidr", json!("10.0.0.0")),
        ("/pods/0/member/vid", json!(4_095)),
        ("/services/0/ports/0/port", json!("http")),
    ] {
        let mut wrong = lab.clone();
        *wrong.pointer_mut(place).expect("a place") = value;
        assert!(mistake(Form::Lab, &wrong).is_some(), "{place}");
    }
}

#[test]
fn the_scenario_schema_accepts_the_scenarios() {
    let folder = fs::read_dir(repository("scenarios")).expect("the scenarios");
    let files = folder.map(|entry| entry.expect("an entry").path());
    let is_scenario = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".yaml") && !name.starts_with("article")
    };
    let scenarios: Vec<_> = files.filter(is_scenario).collect();
    assert!(scenarios.len() >= 14);
    for path in scenarios {
        assert_eq!(mistake(Form::Scenario, &yaml(&path)), None, "{}", path.display());
    }
}

#[test]
fn the_case_schema_accepts_cases_and_no_unknown_step() {
    for name in ["ways/same-node", "ways/hairpin", "schedulers/drain", "fragments/udp"] {
        let mut case = yaml(&repository(&format!("cases/{name}/case.yaml")));
        assert_eq!(mistake(Form::Case, &case), None, "{name}");
        case["timeline"][0] = json!({"sent": "a:1 > cip:80 S"});
        assert!(mistake(Form::Case, &case).is_some(), "{name}");
    }
}

#[test]
fn what_show_and_run_print_is_of_their_forms() {
    let lab = repository("scenarios/article-slb.yaml").display().to_string();
    let tables = ["rule", "route", "neigh", "ipvs", "conntrack", "tc", "sg", "eni", "drops"];
    for table in
        tables.map(|t| vec![t]).into_iter().chain([vec!["ipvs", "-c"], vec!["sg", "--sessions"]])
    {
        let args = [&["show"], &table[..], &["--lab", &lab, "-o", "json"]].concat();
        let document: Value = serde_json::from_str(&printed(&args)).expect("JSON");
        assert_eq!(document["version"], 1);
        assert_eq!(mistake(Form::Show, &document), None, "{table:?}");
    }
    let document = serde_json::from_str(&printed(&["run", "S8", "--json"])).expect("JSON");
    assert_eq!(mistake(Form::Run, &document), None);
}
