//! Mistakes in services, load balancers and outside hosts: each is found alone, in its place.

use crate::support::{check, mistakes};

#[test]
fn services() {
    check(mistakes! {
        "name: demo/y" => "name: ^demo/x", "service `demo/x` is given twice";
        "name: demo/y" => "name: ^y", "expected NS/NAME for a service, found `y`";
        "name: demo/y\n    clusterIP: 192.168.0.11\n    externalIPs: 47.0.0.1\n" => "name: ^demo/y\n",
            "service `demo/y` has no VIP: expected `clusterIP`";
        "name: demo/y\n" => "name: ^demo/z\n    clusterIP: 192.168.0.12\n  - name: demo/y\n",
            "service `demo/z` has no port";
        "clusterIP: 192.168.0.11" => "clusterIP: ^None", "clusterIP: expected an IPv4 address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^192.168.0.10", "it is service `demo/x`'s";
        "clusterIP: 192.168.0.11" => "clusterIP: ^10.0.4.20", "it is eth0 of node `n1`'s";
        "clusterIP: 192.168.0.11" => "clusterIP: ^10.0.4.27", "it is pod `demo/a`'s";
        "clusterIP: 192.168.0.11" => "clusterIP: ^10.0.4.253", "is the gateway of vSwitch `vsw-a`";
        "clusterIP: 192.168.0.11" => "clusterIP: ^47.0.0.1", "it is service `demo/x`'s";
        "clusterIP: 192.168.0.11" => "clusterIP: ^224.0.0.1", "`224.0.0.1` is a multicast address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^127.0.0.1", "is a loopback address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^0.0.0.0", "is an unspecified address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^255.255.255.255", "is the broadcast address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^169.254.1.1", "is a link-local address";
        "clusterIP: 192.168.0.11" => "clusterIP: ^240.0.0.1", "is a reserved address";
        "externalIPs: [47.0.0.1]" => "externalIPs: [47.0.0.1, ^47.0.0.1]", "is given twice";
        "loadBalancer: 8.0.0.1" => "loadBalancer: ^47.0.0.1", "address `47.0.0.1` is given twice";
        "loadBalancer: 8.0.0.1" => "loadBalancer: ^slb", "loadBalancer: expected an IPv4 address";
        "externalTrafficPolicy: Cluster" => "externalTrafficPolicy: ^Locl", "did you mean `Local`?";
        "externalTrafficPolicy: Cluster" => "internalTrafficPolicy: ^Node", "`Cluster` or `Local`";
        "sessionAffinity: None" => "sessionAffinity: ^Cookie",
            "sessionAffinity: expected `None` or `ClientIP`";
        "sessionAffinity: None" =>
            "sessionAffinity: ClientIP\n    sessionAffinityConfig: {clientIP: {timeoutSeconds: ^0}}",
            "timeoutSeconds: expected a whole number from 1 to 86400, found `0`";
        "sessionAffinity: None" =>
            "sessionAffinity: ClientIP\n    sessionAffinityConfig: {clientIP: {timeoutSeconds: ^86401}}",
            "timeoutSeconds: expected a whole number from 1 to 86400";
        "sessionAffinity: None" => "sessionAffinityConfig: {clientIP: {timeoutSeconds: ^60}}",
            "timeoutSeconds: expected `sessionAffinity: ClientIP` with it";
        "scheduler: rr" => "scheduler: ^wr", "did you mean `rr`?";
        "scheduler: rr" => "scheduler: ^random", "scheduler: expected `rr`";
        "scheduler: rr" => "scheduler: sh\n    schedulerFlags: [sh-port, ^mh-port]",
            "`mh-port` is a flag of scheduler `mh`, and the service has `sh`";
        "scheduler: rr" => "schedulerFlags: ^sh-fallback", "and the service has `rr`";
        "scheduler: rr" => "scheduler: mh\n    schedulerFlags: ^port", "schedulerFlags: expected";
    });
}

#[test]
fn service_types() {
    check(mistakes! {
        "clusterIP: 192.168.0.11" => "clusterIP: 192.168.0.11\n    type: ^ExternalName",
            "type: expected `ClusterIP`, `NodePort` or `LoadBalancer`";
        "    loadBalancer: 8.0.0.1" => "    type: ClusterIP\n    loadBalancer: ^8.0.0.1",
            "loadBalancer: only a service of `type: LoadBalancer` has it";
        "clusterIP: 192.168.0.11" =>
            "clusterIP: 192.168.0.11\n    loadBalancerSourceRanges: ^10.0.0.0/8",
            "loadBalancerSourceRanges: only a service of `type: LoadBalancer` has it";
        "    loadBalancer: 8.0.0.1" =>
            "    loadBalancer: 8.0.0.1\n    loadBalancerSourceRanges: [10.0.0.0/8, ^10.0.0.1/8]",
            "loadBalancerSourceRanges: `10.0.0.1/8` has bits set after its prefix";
        "    clusterIP: 192.168.0.11\n    externalIPs: 47.0.0.1" =>
            "    clusterIP: 192.168.0.11\n    externalTrafficPolicy: ^Local",
            "externalTrafficPolicy: nothing from outside leads to this service";
        "{port: 443}" => "{port: 443, nodePort: ^30443}",
            "nodePort: only a service of `type: NodePort` or `LoadBalancer` has it";
        "ports: [{port: 443}]" => "type: NodePort\n    ports: [{port: ^443}]",
            "a port of `type: NodePort` lacks `nodePort`";
        "ports: [{port: 443}]" => "type: NodePort\n    ports: [{port: 443, nodePort: ^443}]",
            "nodePort: expected a whole number from 30000 to 32767, found `443`";
        "ports: [{port: 443}]" => "type: NodePort\n    ports: [{port: 443, nodePort: ^32768}]",
            "nodePort: expected a whole number from 30000 to 32767";
        "ports: [{port: 443}]" =>
            "type: NodePort\n    ports: [{port: 443, nodePort: 30001}, {port: 444, nodePort: ^30001}]",
            "nodePort 30001/tcp is given twice: service `demo/y` has it";
        "  - name: demo/y\n" =>
            "  - {name: demo/w, type: NodePort, ports: [{port: 1, nodePort: 30001}]}\n  \
             - {name: demo/z, type: NodePort, ports: [{port: 1, nodePort: ^30001}]}\n  - name: demo/y\n",
            "nodePort 30001/tcp is given twice: service `demo/w` has it";
    });
}

#[test]
fn ports_and_endpoints() {
    check(mistakes! {
        "{port: 443}" => "{port: ^0}", "port: expected a whole number from 1 to 65535, found `0`";
        "{port: 443}" => "{port: ^http}", "found `http`";
        "{port: 443}" => "{^targetPort: 443}", "this map lacks the key `port`";
        "{port: 443}" => "{port: 443, targetPort: ^65536}", "targetPort: expected";
        "{port: 443}" => "{port: 443, targetPort: ^web}", "targetPort: expected";
        "{port: 443}" => "{port: 443, proto: ^icmp}", "proto: expected `tcp` or `udp`, found `icmp`";
        "{port: 443}" => "{port: 443}, {port: ^443, proto: TCP}",
            "port 443/tcp is given twice in one service";
        "    externalIPs: 47.0.0.1\n    ports: [{port: 443}]" =>
            "    externalIPs: ^47.0.0.1\n    ports: [{port: 80}]",
            "`47.0.0.1` port 80/tcp is given twice: service `demo/x` has it";
        "{pod: demo/b, weight: 2}" => "{pod: ^demo/d, weight: 2}", "did you mean `demo/";
        "{pod: demo/b, weight: 2}" => "{pod: ^demo/a, weight: 2}", "endpoint `demo/a` is listed twice";
        "weight: 2}" => "weight: ^65536}", "weight: expected a whole number from 0 to 65535";
        "weight: 2}" => "upper: 5, lower: ^6}", "lower: 6 is higher than the upper threshold, 5";
        "weight: 2}" => "lower: ^1}", "lower: 1 is higher than the upper threshold, 0";
        "weight: 2}" => "upper: ^-1}", "upper: expected a whole number";
        "weight: 2}" => "weight: 2, ready: ^maybe}", "ready: expected `true` or `false`";
        "weight: 2}" => "weight: 2, ready: true, serving: ^false}",
            "serving: an endpoint that is ready serves";
        "{port: 443}" => "{port: 443, targetPort: ^0}", "targetPort: expected";
        "{pod: demo/b, weight: 2}" => "{^weight: 2}", "this map lacks the key `pod`";
        "{pod: demo/b, weight: 2}" => "^demo/b", "expected a map";
    });
}

#[test]
fn load_balancers() {
    check(mistakes! {
        "    vip: 8.0.0.1" => "    vip: ^8.0.0", "vip: expected an IPv4 address";
        "    vip: 8.0.0.1" => "    vip: ^192.168.0.10", "it is service `demo/x`'s";
        "    vip: 8.0.0.1" => "    vip: ^10.0.4.255", "the broadcast address of vSwitch";
        "  - id: lb-1\n" =>
            "  - {id: lb-1, vip: 8.0.0.2, listeners: [{port: 1}]}\n  - id: ^lb-1\n",
            "load balancer `lb-1` is given twice";
        "  - id: lb-1\n    vip: 8.0.0.1\n" =>
            "  - {id: lb-0, vip: 8.0.0.1, listeners: [{port: 1}]}\n  - id: lb-1\n    vip: ^8.0.0.1\n",
            "it is load balancer `lb-0`'s";
        "  - id: lb-1\n" => "  - {id: ^lb-0, vip: 8.0.0.2}\n  - id: lb-1\n", "has no listener";
        "id: lb-1" => "id: ^lb 1", "expected an ID of letters";
        "backends: [eni-a]" => "backends: [^eni-c]", "did you mean `eni-";
        "backends: [eni-a]" => "backends: [^eni-t1]", "`eni-t1` is not a member ENI";
        "backends: [eni-a]" => "backends: [eni-a, ^demo/a]", "backends: `demo/a` is listed twice";
        "backends: [eni-a]" => "backends: ^demo/z", "there is no pod `demo/z`";
        "backendPort: 8080" => "backendPort: ^0", "backendPort: expected";
        "{port: 53, proto: udp}]\noutside" => "{port: ^80}]\noutside", "listener 80/tcp is given twice";
        "{port: 53, proto: udp}]\noutside" => "{port: 53, proto: ^quic}]\noutside", "proto: expected";
    });
}

#[test]
fn outside() {
    check(mistakes! {
        "{name: internet" => "{name: ^Internet", "expected a name of up to 63 lower-case letters";
        "{name: internet" => "{name: internet, ips: 1.1.1.1}\n  - {name: ^internet",
            "outside host `internet` is given twice";
        "ips: [203.0.113.9]" => "ips: [^10.0.9.9]", "`10.0.9.9` lies inside the VPC's range";
        "ips: [203.0.113.9]" => "ips: [203.0.113.9, ^203.0.113.9]", "is given twice";
        "ips: [203.0.113.9]" => "ips: [^8.0.0.1]", "it is service `demo/x`'s";
        "ips: [203.0.113.9]" => "ips: [^239.0.0.1]", "is a multicast address";
        "{name: internet, ips: [203.0.113.9]" => "{name: ^internet, ips: []", "has no address";
        "mac: 02:00:00:00:00:ee" => "mac: ^02:00:00:00:00:0a", "it is pod `demo/a`'s";
    });
}
