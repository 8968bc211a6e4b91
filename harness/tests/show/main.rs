//! What `trunkline show` prints, for a lab before and after traffic.

mod support;

use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use harness::commands::show::run_on_lab_file;
use harness::show::{Format, IpvsOptions, Query, ShowArgs, Table, TableId, What, take};
use support::{LAB, after_traffic, golden, link, shown};

const CLIENT_NODE: &str = "cn-hongkong.10.0.4.20";

fn on(node: &str, mut query: Query) -> Query {
    query.node = Some(node.to_owned());
    query
}

fn route(table: &str) -> Query {
    Query { table: table.parse().expect("a table"), ..Query::new(What::Route) }
}

fn ipvs(options: IpvsOptions) -> Query {
    Query { ipvs: options, ..Query::new(What::Ipvs) }
}

fn text(query: &Query) -> String {
    shown(&link(), query).text()
}

#[test]
fn rules_are_those_of_ip_rule() {
    golden("rule", &text(&Query::new(What::Rule)));
}

#[test]
fn rules_of_newer_terway_have_no_iif() {
    let lab = datapath::lab::load(&LAB.replace("terway-1.4.0", "terway-1.4.2"), "lab.yaml");
    let link = datapath::link::MemoryLink::new(lab.expect("a lab"));
    let rules = shown(&link, &Query::new(What::Rule)).text();
    assert!(rules.contains("\n2048:\tfrom 10.0.4.27 lookup 1003\n"), "{rules}");
    let filters = shown(&link, &Query::new(What::Tc)).text();
    assert!(filters.contains("filter protocol ip pref 50001 u32"), "{filters}");
}

#[test]
fn oldest_terway_pushes_no_tag() {
    let lab = datapath::lab::load(&LAB.replace("terway-1.4.0", "terway-1.3"), "lab.yaml");
    let link = datapath::link::MemoryLink::new(lab.expect("a lab"));
    let filters = shown(&link, &on(CLIENT_NODE, Query::new(What::Tc))).text();
    let start = "# tc filter show dev eth1 egress\n# tc filter show dev eth1 ingress\nfilter ";
    assert!(filters.starts_with(start), "{filters}");
}

#[test]
fn routes_are_those_of_ip_route() {
    golden("route-main", &text(&on(CLIENT_NODE, route("main"))));
    golden("route-1003", &text(&on(CLIENT_NODE, route("1003"))));
    golden("route-local", &text(&on(CLIENT_NODE, route("local"))));
}

#[test]
fn filters_are_those_of_tc() {
    golden("tc", &text(&on(CLIENT_NODE, Query::new(What::Tc))));
}

#[test]
fn tables_of_state_are_empty_at_first() {
    assert_eq!(text(&on(CLIENT_NODE, Query::new(What::Conntrack))), "");
    assert_eq!(text(&on(CLIENT_NODE, Query::new(What::Neigh))), "");
    assert_eq!(text(&on(CLIENT_NODE, Query::new(What::Drops))), "");
    golden("ipvs-before", &text(&on(CLIENT_NODE, Query::new(What::Ipvs))));
}

#[test]
fn state_after_traffic_is_shown_with_the_time_left() {
    let link = after_traffic();
    let table = |query: Query| shown(&link, &query).text();
    let connections = ipvs(IpvsOptions { connections: true, ..IpvsOptions::default() });
    let sessions = Query { sessions: true, ..Query::new(What::Sg) };
    golden("neigh", &table(Query::new(What::Neigh)));
    golden("ipvs", &table(on(CLIENT_NODE, Query::new(What::Ipvs))));
    golden("ipvs-connections", &table(connections));
    golden("conntrack", &table(Query::new(What::Conntrack)));
    golden("sg", &table(Query::new(What::Sg)));
    golden("sg-sessions", &table(sessions));
    golden("eni", &table(Query::new(What::Eni)));
    golden("drops", &table(Query::new(What::Drops)));
}

/// Held against ipvsadm 1.31 on a 6.1 kernel with the same kinds of services.
#[test]
fn the_options_of_ipvsadm_change_what_is_told() {
    let link = after_traffic();
    let none = IpvsOptions::default();
    for (name, options) in [
        ("ipvs-stats", IpvsOptions { stats: true, ..none }),
        ("ipvs-persistent", IpvsOptions { persistent_conn: true, ..none }),
        ("ipvs-thresholds", IpvsOptions { thresholds: true, ..none }),
        ("ipvs-save", IpvsOptions { save: true, ..none }),
    ] {
        golden(name, &shown(&link, &on(CLIENT_NODE, ipvs(options))).text());
    }
    let timeouts = shown(&link, &on(CLIENT_NODE, ipvs(IpvsOptions { timeout: true, ..none })));
    assert_eq!(timeouts.text(), "Timeout (tcp tcpfin udp): 900 120 300\n");
}

#[test]
fn flags_of_a_virtual_server_follow_its_scheduler() {
    let scheduler = "scheduler: sh\n    schedulerFlags: [sh-port, sh-fallback]\n    \
                     sessionAffinity: ClientIP\n    clusterIP: 192.168.31.83";
    let lab = LAB.replacen("clusterIP: 192.168.31.83", scheduler, 1);
    let link = datapath::link::MemoryLink::new(datapath::lab::load(&lab, "x").expect("a lab"));
    let text = |options| shown(&link, &on(CLIENT_NODE, ipvs(options))).text();
    let servers = text(IpvsOptions::default());
    let line = "TCP  192.168.31.83:80 sh (sh-fallback,sh-port) persistent 10800\n";
    assert!(servers.contains(line), "{servers}");
    let calls = text(IpvsOptions { save: true, ..IpvsOptions::default() });
    let line = "-A -t 192.168.31.83:80 -s sh -p 10800 -b sh-fallback,sh-port\n";
    assert!(calls.contains(line), "{calls}");
}

#[test]
fn a_route_table_that_is_not_there_is_told() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/show/lab.yaml");
    let error = |table: &str| {
        let shown = run_on_lab_file(&file, &route(table), Format::Text, &mut Vec::new());
        shown.err().map(|error| error.to_string())
    };
    let said = "FIB table 9999 does not exist; there are: main, local, 1003";
    assert_eq!(error("9999").as_deref(), Some(said));
    for table in ["main", "local", "1003"] {
        assert_eq!(error(table), None);
    }
    assert!(error("default").is_some(), "the kernel has none either");
}

#[test]
fn machines_get_the_same_as_json() {
    let link = after_traffic();
    let conntrack = shown(&link, &on(CLIENT_NODE, Query::new(What::Conntrack)));
    let json = serde_json::to_value(&conntrack).expect("JSON");
    assert_eq!(json["kind"], "conntrack");
    let first = &json["nodes"][0]["entries"][0];
    assert_eq!(first["original"]["dst"], "47.243.87.204");
    assert_eq!(first["reply"]["dst"], "10.0.4.20");
    assert_eq!(first["state"], "ESTABLISHED");
    let rules = serde_json::to_value(shown(&link, &Query::new(What::Rule))).expect("JSON");
    assert_eq!(rules["nodes"][0]["entries"][3]["table"], "1003");
    let enis = serde_json::to_value(shown(&link, &Query::new(What::Eni))).expect("JSON");
    assert_eq!(enis["enis"][4]["vid"], 101);
    assert_eq!(enis["enis"][4]["queue"]["number"], 1);
}

#[test]
fn a_node_that_is_not_there_is_named_with_those_that_are() {
    let link = link();
    let query = on("n9", Query::new(What::Rule));
    let nodes: Vec<_> = (0..2).filter_map(|index| link.node(index)).collect();
    let error = take(&query, link.lab(), &nodes, link.vpc(), link.now()).expect_err("no table");
    let expected = "no node \"n9\"; there are: cn-hongkong.10.0.4.20, cn-hongkong.10.0.4.244";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_lab_file_is_shown_without_a_running_lab() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), LAB).expect("written");
    let mut out = Vec::new();
    let query = on(CLIENT_NODE, route("1003"));
    run_on_lab_file(file.path(), &query, Format::Text, &mut out).expect("shown");
    assert_eq!(String::from_utf8_lossy(&out), "default via 10.0.4.253 dev eth1 onlink \n");
    out.clear();
    run_on_lab_file(file.path(), &query, Format::Json, &mut out).expect("shown");
    let json: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(json["nodes"][0]["entries"][0]["flags"][0], "onlink");
    std::fs::write(file.path(), "nodes: 3").expect("written");
    run_on_lab_file(file.path(), &query, Format::Text, &mut out).expect_err("no lab");
}

#[test]
fn arguments_name_table_and_options() {
    let command = ShowArgs::augment_args(Command::new("show"));
    let parse = |args: &[&str]| {
        let matches = command.clone().try_get_matches_from([&["show"], args].concat());
        ShowArgs::from_arg_matches(&matches.expect("arguments")).expect("arguments")
    };
    let args = parse(&["route", "--table", "1003", "--node", "n1", "-o", "json"]);
    assert_eq!(args.query, on("n1", route("1003")));
    assert_eq!((args.output, args.lab), (Format::Json, None));
    assert!(parse(&["ipvs", "-c"]).query.ipvs.connections);
    assert_eq!(parse(&["rule"]).query, Query::new(What::Rule));
    let wrong = command.clone().try_get_matches_from(["show", "route", "--table", "x"]);
    assert!(wrong.is_err());
}

#[test]
fn queries_survive_the_way_to_the_daemon() {
    let query = on("n1", Query { table: TableId(1003), ..Query::new(What::Route) });
    let json = serde_json::to_string(&query).expect("JSON");
    assert_eq!(serde_json::from_str::<Query>(&json).expect("a query"), query);
    let short: Query = serde_json::from_str(r#"{"what":"sg"}"#).expect("a query");
    assert_eq!(short, Query::new(What::Sg));
}

#[test]
fn a_rule_prints_every_selector() {
    let rule = harness::show::Rule {
        priority: 7,
        src: Some("10.0.4.0/24".parse().expect("a range")),
        dst: Some("10.0.5.35/32".parse().expect("a range")),
        fwmark: Some((0x4000, 0xff00)),
        iif: Some("lo".to_owned()),
        oif: Some("eth1".to_owned()),
        table: TableId(253),
    };
    let expected =
        "7:\tfrom 10.0.4.0/24 to 10.0.5.35 fwmark 0x4000/0xff00 iif lo oif eth1 lookup default";
    assert_eq!(rule.to_string(), expected);
    assert_eq!(Table::Drops { elements: Vec::new() }.text(), "");
}
