/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Counts the frames that arrive, and drops them: the end of a measured way. A frame that is not
 * the expected one is counted apart, so that forwarding wrong frames fast earns nothing.
 *
 * The expected frames are one datagram each of many flows, which differ in source port and
 * checksum only. One's complement sums make the two a constant together, so both are checked
 * without adding up the frame.
 */

#include "xdp.h"

/* The headers of one expected frame. */
const volatile struct datagram expected;

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

static inline int is_right(const struct datagram *d)
{
	return d->words[0] == expected.words[0] && d->words[1] == expected.words[1] &&
	       d->words[2] == expected.words[2] && d->words[3] == expected.words[3] &&
	       d->dst_low == expected.dst_low && d->dst_port == expected.dst_port &&
	       d->len == expected.len && d->check != 0 &&
	       fold(d->src_port + d->check) == fold(expected.src_port + expected.check);
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
