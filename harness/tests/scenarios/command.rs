//! The scenarios that come with trunkline, all of their variants, on the memory datapath; the
//! command's face; and the form of its report.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::memory::Memory;
use harness::scenario::file::{Outcome, Profile};
use harness::scenario::{Report, Run, Wanted, cases, find, names, run};

fn run_under(name: &str, profile: Profile) -> Vec<Run> {
    let cases = cases(&find(name).unwrap(), &Wanted::All, Some(profile)).unwrap();
    cases.into_iter().map(|case| run(&Memory, case).unwrap()).collect()
}

fn failures(run: &Run) -> Vec<String> {
    let failed = run.checks.iter().filter(|check| !check.ok);
    failed
        .map(|check| {
            format!("{}: {} is {}, not {}", run.case.name(), check.what, check.seen, check.expected)
        })
        .collect()
}

fn trunkline(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trunkline")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// spec SCN-12 to SCN-34: every expectation of every scenario holds, under the article's Terway
/// and under the later one.
#[test]
fn every_scenario_and_variant_holds() {
    let begun = Instant::now();
    let mut failed = Vec::new();
    for profile in [Profile::P1, Profile::P2] {
        for name in names() {
            for run in run_under(name, profile) {
                failed.extend(failures(&run));
            }
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    assert!(begun.elapsed() < Duration::from_secs(20), "memory runs in virtual time");
}

/// spec SCN-25: the oldest Terway has the article's ways and conditions.
#[test]
fn the_oldest_profile_has_the_conditions_of_the_articles() {
    for name in names() {
        for run in run_under(name, Profile::P0) {
            assert_eq!(failures(&run), Vec::<String>::new());
            assert!(run.case.name().contains("@terway-1.3"));
        }
    }
}

/// spec SCN-6, SCN-43, SCN-44: the ten, and five more.
#[test]
fn all_ten_are_there() {
    let ten: Vec<_> = (1..=10).map(|number| format!("S{number}")).collect();
    let names: Vec<_> = names().collect();
    assert_eq!(names[..10], ten);
    assert_eq!(names[10..], ["node-pod", "node-clusterip", "pod-node", "hairpin", "fnat"]);
}

/// spec SCN-23, SCN-24, SCN-43, SCN-44: whoever has a say can close the scenario by itself, and no other does.
#[test]
fn each_deciding_eni_has_its_variant() {
    let closing = |name: &str, profile| -> Vec<String> {
        let cases = cases(&find(name).unwrap(), &Wanted::All, Some(profile)).unwrap();
        let by = cases.into_iter().filter_map(|case| case.expect.by);
        let by = by.map(|by| format!("{} {} {}", by.eni, by.direction, by.leg.name()));
        by.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let by_member: &[&str] = &["mem1 out request", "mem2 in request"];
    let by_eth0: &[&str] = &["eth0@1 out request", "mem2 in request"];
    let (member_back, trunk): (&[&str], &[&str]) = (
        &["eth0@1 out request", "mem1 in reply", "mem2 in request"],
        &["eth0@1 in reply", "mem2 in request", "trunk@1 out request"],
    );
    let to_node: &[&str] = &["eth0@2 in request", "mem1 out request"];
    let conditions: [(&[&str], &[&str], &[&str]); 7] = [
        (&["S1", "S4", "S7", "hairpin"], &[], &[]),
        (&["S2", "S3"], by_member, by_member),
        (&["S5", "S6"], member_back, by_member),
        (&["S8", "S9"], by_eth0, trunk),
        (&["S10"], &["mem2 in request"], &["mem2 in request"]),
        (&["node-pod", "node-clusterip", "fnat"], by_eth0, by_eth0),
        (&["pod-node"], to_node, to_node),
    ];
    for (scenarios, article, later) in conditions {
        for name in scenarios {
            assert_eq!(closing(name, Profile::P1), article, "{name}");
            assert_eq!(closing(name, Profile::P2), later, "{name}");
        }
    }
}

/// spec LAW-5: the same lab and the same request give the same report.
#[test]
fn runs_repeat() {
    for name in names() {
        let report = || Report::new(&run_under(name, Profile::P2));
        assert_eq!(report(), report(), "{name}");
    }
}

/// spec LAW-10: what is held against another datapath's run says where the two part.
#[test]
fn runs_that_went_other_ways_are_told_apart() {
    let [one, same, other] = [("S8", Profile::P1), ("S8", Profile::P1), ("S8", Profile::P2)]
        .map(|(name, profile)| run_under(name, profile).remove(0).comparison());
    let check = one.check("memory", &same);
    assert!(check.ok, "{check:?}");
    assert_eq!(check.what, "hops = memory");
    let check = one.check("memory", &other);
    assert!(!check.ok);
    // The article's request leaves by eth0, the later profile's by the trunk.
    assert!(check.expected.contains("eth0") && check.seen.contains("eth1"), "{check:?}");
}

/// spec SCN-15, SCN-30: ports that may differ from run to run are symbols where datapaths are
/// compared.
#[test]
fn comparisons_have_symbols_for_ports() {
    let run = run_under("S8", Profile::P1).remove(0);
    let comparison = run.comparison();
    let tuples: Vec<_> = comparison.forward.iter().map(|row| row.after.as_str()).collect();
    assert_eq!(tuples.first(), Some(&"tcp 10.0.4.27:$client > 47.243.87.204:80"));
    assert_eq!(tuples.last(), Some(&"tcp 10.0.4.20:$masq > 10.0.5.35:80"));
    let tuples: Vec<_> = comparison.reply.iter().map(|row| row.after.as_str()).collect();
    assert_eq!(tuples.first(), Some(&"tcp 10.0.5.35:80 > 10.0.4.20:$masq"));
    assert_eq!(tuples.last(), Some(&"tcp 47.243.87.204:80 > 10.0.4.27:$client"));
}

/// The seed moves the masquerade's port; what is compared stays.
#[test]
fn comparisons_do_not_depend_on_the_seed() {
    let mut cases = cases(&find("S8").unwrap(), &Wanted::Itself, None).unwrap();
    let first = run(&Memory, cases[0].clone()).unwrap();
    cases[0].lab.seed = 77;
    let second = run(&Memory, cases.remove(0)).unwrap();
    assert_ne!(first.recording.hops, second.recording.hops);
    assert_eq!(first.comparison(), second.comparison());
}

#[test]
fn the_command_reports_in_json() {
    let output = trunkline(&["run", "S8", "S5", "--all-variants", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    // Fields the schema does not know are refused.
    let report: Report = serde_json::from_str(&text).unwrap();
    assert!(report.passed);
    let again = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(again, text.trim_end());
    let names: Vec<_> = report
        .cases
        .iter()
        .map(|case| (case.scenario.as_str(), case.variant.as_deref().unwrap_or("-")))
        .collect();
    assert_eq!(names.first(), Some(&("S8", "-")));
    assert!(names.contains(&("S5", "mem1-in")));
    let denied = report.cases.iter().find(|c| c.variant.as_deref() == Some("mem1-in")).unwrap();
    assert_eq!(denied.verdict, Outcome::Denied);
    assert_eq!(denied.denial.as_ref().unwrap().eni.as_deref(), Some("eni-client"));
    assert_eq!(denied.client.exit, 28);
}

/// A user's own scenario in a folder of his, with a lab that comes with trunkline.
fn own(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    (folder, path)
}

const OWN: &str = "
name: mine
title: a pod asks another
lab: article.yaml
client: pod:trunking/centos-59cdc5c9c4-l5vf9
server: trunking/nginx-same
request: http://10.0.4.31:8080/x
expect: {verdict: reachable}
";

#[test]
fn a_file_of_the_users_runs() {
    let (_folder, path) = own("mine.yaml", OWN);
    let output = trunkline(&["run", &path]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("HTTP 200"));
}

/// What a profile's section leaves out is as in the scenario; without `--profile` the lab's own
/// profile holds, and no section.
#[test]
fn a_profiles_section_is_read_for_its_profile_only() {
    let section = "
variants:
  x: {expect: {verdict: reachable}}
profiles:
  terway-1.4.2:
    expect: {verdict: denied, by: {eni: mem2, direction: in, leg: request}}
    variants: {y: {expect: {verdict: reachable}}}
";
    let (_folder, path) = own("two.yaml", &format!("{OWN}{section}"));
    let of = |profile| -> Vec<_> {
        let cases = cases(&find(&path).unwrap(), &Wanted::All, profile).unwrap();
        cases.iter().map(|case| (case.name(), case.expect.verdict, case.title.clone())).collect()
    };
    let title = || "a pod asks another".to_owned();
    let article = [
        ("mine".to_owned(), Outcome::Reachable, title()),
        ("mine/x".to_owned(), Outcome::Reachable, title()),
    ];
    assert_eq!(of(None), article);
    assert_eq!(of(Some(Profile::P1)), article);
    let later = [
        ("mine@terway-1.4.2".to_owned(), Outcome::Denied, title()),
        ("mine@terway-1.4.2/y".to_owned(), Outcome::Reachable, title()),
    ];
    assert_eq!(of(Some(Profile::P2)), later);
}

#[test]
fn the_command_runs_both_profiles() {
    let output = trunkline(&["run", "S8", "--profile", "all", "--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: Report = serde_json::from_str(&stdout(&output)).unwrap();
    let profiles: Vec<_> = report.cases.iter().map(|case| case.profile).collect();
    assert_eq!(profiles, [Profile::P1, Profile::P2]);
    let output = trunkline(&["run", "S8", "--profile", "terway-1.4.2", "--brief"]);
    assert!(stdout(&output).contains("S8@terway-1.4.2"), "{}", stdout(&output));
}

#[test]
fn an_expectation_that_does_not_hold_fails_the_run() {
    let wrong = [
        OWN.replace("reachable", "denied, by: {eni: mem2, direction: in, leg: request}"),
        format!("{OWN}path: {{forward: here -> there, reply: there -> here}}\n"),
        OWN.replace("10.0.4.31:8080", "10.0.4.99:80"),
        // The client gets a page, but another server's.
        OWN.replace("10.0.4.31:8080", "192.168.31.83"),
    ];
    for text in wrong {
        let (_folder, path) = own("wrong.yaml", &text);
        let output = trunkline(&["run", &path]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(stdout(&output).contains("FAIL"), "{}", stdout(&output));
    }
}

#[test]
fn mistakes_in_a_scenario_file_are_told() {
    let mistakes = [
        (OWN.replace("title:", "titel:"), "unknown field `titel`"),
        (OWN.replace("http://10.0.4.31:8080/x", "http://nginx/"), "expected a URL"),
        (OWN.replace("trunking/nginx-same", "trunking/nobody"), "server: expected pod:NS/NAME"),
        (format!("{OWN}profiles: {{terway-9: {{}}}}\n"), "terway-9"),
        (
            OWN.replace("pod:trunking/centos-59cdc5c9c4-l5vf9", "host:x"),
            "expected pod:NS/NAME, node:NAME or outside:NAME",
        ),
        (OWN.replace("reachable", "denied"), "`by` is for `denied`, and required there"),
        (OWN.replace("article.yaml", "nowhere.yaml"), "no lab file nowhere.yaml"),
        (format!("{OWN}patch: {{vpc: {{vSwitches: null}}}}\n"), "with the patch of"),
        (format!("{OWN}patch: [1]\n"), "patch"),
    ];
    for (text, expected) in mistakes {
        let (_folder, path) = own("mistake.yaml", &text);
        let output = trunkline(&["run", &path]);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(stderr(&output).contains(expected), "{expected}: {}", stderr(&output));
    }
}

#[test]
fn unknown_scenarios_and_variants_are_told() {
    let output = trunkline(&["run", "S99"]);
    let known = "neither a file nor one of S1, S2, S3, S4, S5, S6, S7, S8, S9, S10, node-pod";
    assert!(stderr(&output).contains(known), "{}", stderr(&output));
    let output = trunkline(&["run", "S2", "--variant", "open"]);
    assert!(
        stderr(&output)
            .contains("it has advanced-no-rules, mem1-out, mem2-in, no-rules, rules-only"),
        "{}",
        stderr(&output)
    );
    let output = trunkline(&["run", "S2", "--variant", "mem2-in", "--brief"]);
    assert!(output.status.success());
    assert_eq!(stdout(&output).lines().count(), 2);
}

#[test]
fn a_case_is_named_as_it_is_printed() {
    for name in ["S8/mem2-in", "S8@terway-1.4.2", "S8@terway-1.4.2/mem2-in"] {
        let output = trunkline(&["run", name, "--brief"]);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).starts_with(&format!("ok    {name}  ")), "{}", stdout(&output));
    }
    for (name, said) in [
        ("S8/none", "S8 has no variant none"),
        ("S8@terway-9", "no scenario S8@terway-9"),
        ("nowhere/S8.yaml", "no scenario nowhere/S8.yaml"),
    ] {
        let output = trunkline(&["run", name]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
}

#[test]
fn long_names_keep_the_columns() {
    let output = trunkline(&["run", "S1", "S8@terway-1.4.2/mem2-in", "--brief"]);
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    let column = |line: &str, words: &str| line.find(words).unwrap_or_else(|| panic!("{text}"));
    let title = column(lines[2], "pod to SLB");
    assert_eq!(column(lines[0], "pod to pod"), title, "{text}");
    assert_eq!(
        (column(lines[1], "reachable"), column(lines[3], "denied")),
        (title, title),
        "{text}"
    );
}
