/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What the programs need of the kernel's definitions, written out (all of it stable ABI), so that
 * building them takes no header beside this one.
 */

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

enum {
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_XSKMAP = 17
};
enum { XDP_DROP = 1 };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static __u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static long (*const bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;
static __u64 (*const bpf_xdp_get_buff_len)(struct xdp_md *ctx) = (void *)188;

/*
 * The headers of a datagram or segment without VLAN tag and options, in words that lie on their
 * own size in it. Everything is as on the wire, in network byte order.
 */
struct headers {
	__u64 words[4];        /* Ethernet header, IPv4 header up to half of the destination */
	__u16 dst_low;         /* the destination's other half */
	__u16 src_port;
	__u16 dst_port;
	__u16 l4[8];           /* UDP: length, checksum; TCP: [6] is the checksum */
};

/* What a measured frame carries: the number of its stream, and the time at which it was sent in
 * nanoseconds, with its complement. */
struct payload {
	__u16 stream;
	__u16 sent[2];
	__u16 complement[2];
};

/* Bytes of an Ethernet header, of a VLAN tag, of a datagram's and of a segment's headers, of what is
 * behind them, and where the IPv4 header says which of the two it is. */
enum { ETHERNET = 14, TAG = 4, DATAGRAM = 42, SEGMENT = 54, PAYLOAD = 10 };
enum { PROTOCOL_AT = 23, PROTOCOL_TCP = 6 };

/* The one's complement sum of 16-bit words as 16 bits; zero for a sum of zero only. */
static inline __u32 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}
