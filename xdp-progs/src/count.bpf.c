/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Counts the frames that arrive, and drops them: the end of a measured way. A frame that is not
 * the expected one is counted apart, so that forwarding wrong frames fast earns nothing.
 *
 * The expected frames are one datagram each of many flows, which differ in their ports and the
 * checksum only: any source port, and a range of destination ports. One's complement sums make the
 * three a constant together, so they are checked without adding up the frame.
 */

#include "xdp.h"

/* The headers of an expected frame, with the first of the destination ports, and their number. */
const volatile struct {
	struct datagram datagram;
	__u32 ports;
} expected;

struct counts {
	__u64 right;
	__u64 wrong;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counts);
	__uint(max_entries, 1);
} counts SEC(".maps");

static inline __u32 variable(__u32 src_port, __u32 dst_port, __u32 check)
{
	return fold(src_port + dst_port + check);
}

static inline int is_right(const struct datagram *d)
{
	const volatile struct datagram *e = &expected.datagram;
	__u16 service = __builtin_bswap16(d->dst_port) - __builtin_bswap16(e->dst_port);

	return d->words[0] == e->words[0] && d->words[1] == e->words[1] &&
	       d->words[2] == e->words[2] && d->words[3] == e->words[3] &&
	       d->dst_low == e->dst_low && service < expected.ports && d->len == e->len &&
	       d->check != 0 &&
	       variable(d->src_port, d->dst_port, d->check) ==
		       variable(e->src_port, e->dst_port, e->check);
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	const struct datagram *d = (void *)(long)ctx->data;
	struct counts *found;
	__u32 zero = 0;

	found = bpf_map_lookup_elem(&counts, &zero);
	if (!found)
		return XDP_DROP;
	if ((void *)d + DATAGRAM <= (void *)(long)ctx->data_end && is_right(d))
		found->right++;
	else
		found->wrong++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
