#!/bin/sh
# Builds with iproute2 alone what `trunkline up scenarios/article.yaml` builds before it forwards:
# a network namespace for every node, node's own stack, pod and for the VPC, and the veths between.
#
#   sudo ./up.sh [NAME]      every namespace is called NAME-...; NAME is `byhand` unless given
#   sudo ./down.sh [NAME]    takes it all away again, also what a failed up.sh has left
#
# No program forwards here, so nothing gets further than its own veth. README.md has more.
set -eu

name=${1:-byhand}
# The names of namespaces are read back by their prefix, so a lab's name has no dash of its own.
case $name in
'' | [!a-z]* | *[!a-z0-9]*)
    echo "up.sh: a name has lower-case letters and digits, a letter first: $name" >&2
    exit 1
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "up.sh: namespaces and veths need root" >&2
    exit 1
fi
trap '[ $? = 0 ] || echo "up.sh: not built; ${0%up.sh}down.sh $name removes all of $name" >&2' EXIT

# What Terway gives every ENI, pod and cali end.
mtu=1500

# Terway puts pods behind a next hop that no machine has. It needs no address on the other end of
# the veth: the pod only has to believe that it is on the link, and to know a MAC for it.
next_hop=169.254.1.1

# Empty where it is not installed; the step that needs it is left out then, and the end says so.
ethtool=$(command -v ethtool || true)

# namespace SUFFIX
namespace() {
    ip netns add "$name-$1"
    # With IPv6 on, the kernel would send neighbour and router solicitations by itself, and the
    # lab's counters would show frames that nobody sent. `default` is for the links still to come.
    if [ -e /proc/sys/net/ipv6 ]; then
        echo 1 | ip netns exec "$name-$1" tee /proc/sys/net/ipv6/conf/all/disable_ipv6 \
            /proc/sys/net/ipv6/conf/default/disable_ipv6 >/dev/null
    fi
    ip -n "$name-$1" link set dev lo up
}

# wire QUEUES  SUFFIX IFNAME MAC  SUFFIX IFNAME MAC
#
# Both ends are born where they belong, with all their properties, in one request: neither is ever
# seen in the machine's own namespace, where a network manager might take hold of it.
#
# A frame comes out of the receive queue with the number of the transmit queue it went into, and an
# end takes an XDP program only if it has a receive queue for every transmit queue of the other. So
# both ends have the same number of both. Neither gets an address here: a forwarder's end never
# has one, because all its frames are the forwarder's and none are the kernel's.
wire() {
    ip -n "$name-$2" link add name "$3" address "$4" mtu "$mtu" \
        numtxqueues "$1" numrxqueues "$1" type veth \
        peer name "$6" netns "$name-$5" address "$7" mtu "$mtu" \
        numtxqueues "$1" numrxqueues "$1"
    ip -n "$name-$2" link set dev "$3" up
    ip -n "$name-$5" link set dev "$6" up
}

# stack SUFFIX IP NEXT-HOP'S-MAC
#
# Sets up the end that a network stack lives behind: a pod's, or a node's own.
stack() {
    # A /32, so that nothing but the pod itself is on its link and every frame goes the same way.
    ip -n "$name-$1" address add "$2/32" dev eth0
    # Permanent, because nobody would answer if the pod asked for it.
    ip -n "$name-$1" neighbour add "$next_hop" lladdr "$3" nud permanent dev eth0
    # `onlink`, because no address of eth0 covers the next hop and the kernel would refuse it.
    ip -n "$name-$1" route add default via "$next_hop" dev eth0 onlink
    # A stack leaves checksums and VLAN tags to its device if that offers to write them. A veth
    # offers and does not, and the AF_XDP socket on the other end would get frames without them.
    # This is the one thing that `ip` cannot say.
    if [ -n "$ethtool" ]; then
        ip netns exec "$name-$1" "$ethtool" -K eth0 tx off txvlan off >/dev/null
    fi
}

# node NODE IP HOST'S-MAC HOST0'S-MAC
#
# Two namespaces for what is one on a real node. NAME-NODE is the place of the forwarder, which
# plays the part of the node's kernel between the pods and the ENIs; NAME-NODE-host is the node's
# own stack, so that a kubelet's packets can be told from a pod's. Between them is the veth host0.
node() {
    namespace "$1"
    namespace "$1-host"
    wire 1 "$1" host0 "$4" "$1-host" eth0 "$3"
    stack "$1-host" "$2" "$4"
}

# pod POD IP MAC NODE CALI CALI'S-MAC
#
# CALI is the name that Terway gave the node's end of the pod's veth; the pod takes its MAC for
# the next hop's.
pod() {
    namespace "pod-$1"
    wire 1 "$4" "$5" "$6" "pod-$1" eth0 "$3"
    stack "pod-$1" "$2" "$6"
}

# The VPC stands for all that lies behind the ENIs: vSwitches, security groups, gateways. Every
# ENI meets the same gateway's MAC there.
gateway=ee:ff:ff:ff:ff:ff
namespace vpc
# Carries no traffic. A forwarder binds its packet memory to this private veth, so that the memory
# outlives any pod's.
wire 1 vpc anchor0 02:00:00:00:00:01 vpc anchor1 02:00:00:00:00:02

# The MACs below are those that trunkline derives from the names in scenarios/article.yaml.
#
# Each node has two ENIs, and eth0 and eth1 are their veths into the VPC: eth0 is the primary ENI,
# with the node's IP, and eth1 is the trunk, which carries the member ENIs as VLANs. The trunk's
# own frames have queue 0 and every member ENI has a queue of its own after it, so that one pod's
# flood cannot cost another pod a frame.

# The client's node. Queues of eth1: the trunk, the client (VID 101), nginx-same (VID 102).
node cn-hongkong.10.0.4.20 10.0.4.20 02:f4:5c:0e:83:15 02:0a:da:c1:7c:14
wire 1 vpc n0e0 $gateway cn-hongkong.10.0.4.20 eth0 02:5f:6f:e8:bc:10
wire 3 vpc n0e1 $gateway cn-hongkong.10.0.4.20 eth1 02:05:2c:57:85:64

# Server A's node. Queues of eth1: the trunk, server A (VID 101; VIDs are a trunk's own).
node cn-hongkong.10.0.4.244 10.0.4.244 02:68:2f:e2:89:a1 02:97:15:01:18:1e
wire 1 vpc n1e0 $gateway cn-hongkong.10.0.4.244 eth0 02:d9:56:d5:cc:e9
wire 2 vpc n1e1 $gateway cn-hongkong.10.0.4.244 eth1 02:d3:2e:c5:e8:71

# Server B's node. Queues of eth1: the trunk, server B (VID 101).
node cn-hongkong.10.0.4.22 10.0.4.22 02:e3:45:9a:3f:8c 02:3a:7a:db:1f:41
wire 1 vpc n2e0 $gateway cn-hongkong.10.0.4.22 eth0 02:1c:54:5c:4b:c8
wire 2 vpc n2e1 $gateway cn-hongkong.10.0.4.22 eth1 02:09:c8:35:9a:16

# The client.
pod trunking.centos-59cdc5c9c4-l5vf9 10.0.4.27 02:f6:85:4b:a5:7f \
    cn-hongkong.10.0.4.20 cali7d5bd3feb5f 02:ca:b1:81:a7:ef
# The server on the client's own node.
pod trunking.nginx-same 10.0.4.31 02:9e:79:33:f1:ec \
    cn-hongkong.10.0.4.20 cali5b4eed2f5ac 02:bb:47:2c:64:f5
# Server A, in another vSwitch than its node.
pod trunking.nginx-96bb9b7bb-wwrdm 10.0.5.35 02:29:de:25:b4:1b \
    cn-hongkong.10.0.4.244 cali146beb6a241 02:3f:47:7c:2c:ee
# Server B.
pod trunking.nginx-6f545cb57c-kt7r8 10.0.4.30 02:02:73:4b:35:3d \
    cn-hongkong.10.0.4.22 cali7404cdaedc9 02:07:21:ce:a6:7d

if [ -z "$ethtool" ]; then
    echo "up.sh: SKIPPED for want of ethtool: the eth0 of every pod and of every node's own stack" \
        "keeps its transmit offloads, so a forwarder would get frames with unfinished checksums" >&2
fi
echo "$name is built, and nothing forwards in it; look with: ip netns, ip -n $name-vpc link"
