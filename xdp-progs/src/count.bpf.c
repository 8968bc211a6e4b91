/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Counts the frames that arrive, and drops them: the end of a measured way. A frame that is not
 * the expected one is counted apart, so that forwarding wrong frames fast earns nothing.
 *
 * The expected frames are those of some streams, whose number a frame says in the first two bytes
 * of its payload. Frames of one stream differ in source port and checksum only: one's complement
 * sums make the two a constant together, so both are checked without adding up the frame. A frame
 * that carries the time at which it was sent carries its complement as well, and has the same sum
 * at any time.
 */

#include "xdp.h"

/* What the loader sets, in one piece, so that it does not depend on the order of variables. */
const volatile struct {
	__u32 streams;  /* how many there are */
	__u32 stamped;  /* whether frames carry the time at which they were sent */
	__u32 jumbo;    /* whether frames may lie in several buffers */
	__u32 tag;      /* bytes of the VLAN tag that frames have, if any */
	__u32 front;    /* the first four bytes of a frame with one */
} order;

struct counts {
	__u64 right;
	__u64 wrong;
};

/* The headers of one frame of each stream. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct headers);
	__uint(max_entries, 1);
} expected SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counts);
	__uint(max_entries, 1);
} counts SEC(".maps");

/* How many frames were on their way for how long; see bucket(). */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 26 * 128);
} times SEC(".maps");

/* The number of a time's bucket: 128 of one nanosecond, then 128 to every power of two. */
static inline __u32 bucket(__u32 ns)
{
	__u32 shift = 0, rest = ns >> 7;

	if (rest >= 1 << 16)
		shift += 16, rest >>= 16;
	if (rest >= 1 << 8)
		shift += 8, rest >>= 8;
	if (rest >= 1 << 4)
		shift += 4, rest >>= 4;
	if (rest >= 1 << 2)
		shift += 2, rest >>= 2;
	if (rest >= 1 << 1)
		shift += 1, rest >>= 1;
	/* rest is 1 but for times below 128, which are their own numbers. */
	return rest ? (shift << 7) + (ns >> shift) : ns;
}

static inline int is_right(const struct headers *h, const struct headers *e)
{
	return h->words[0] == e->words[0] && h->words[1] == e->words[1] &&
	       h->words[2] == e->words[2] && h->words[3] == e->words[3] &&
	       h->dst_low == e->dst_low && h->dst_port == e->dst_port && h->l4[0] == e->l4[0];
}

/* Whether a checksum is the expected one less the difference of the source ports. */
static inline int is_sum(const struct headers *h, const struct headers *e, __u32 at)
{
	return fold(h->src_port + h->l4[at]) == fold(e->src_port + e->l4[at]);
}

static inline const struct headers *stream_of(const struct payload *p)
{
	__u32 stream = order.streams > 1 ? __builtin_bswap16(p->stream) : 0;

	return bpf_map_lookup_elem(&expected, &stream);
}

static inline void time(const struct payload *p)
{
	__u32 ns, at;
	__u64 *count;

	ns = (__u32)bpf_ktime_get_ns() - (p->sent[0] | (__u32)p->sent[1] << 16);
	at = bucket(ns);
	count = bpf_map_lookup_elem(&times, &at);
	if (count)
		(*count)++;
}

/*
 * The two kinds are looked at in functions of their own, so that what is known of a frame's length
 * in one is not forgotten where their ways meet.
 */
static inline int is_right_datagram(void *data, void *end)
{
	const struct headers *h = data, *e;
	const struct payload *p = data + DATAGRAM;

	if (data + DATAGRAM + PAYLOAD > end)
		return 0;
	e = stream_of(p);
	if (!e || !is_right(h, e) || !h->l4[1] || !is_sum(h, e, 1))
		return 0;
	if (order.stamped)
		time(p);
	return 1;
}

static inline int is_right_segment(void *data, void *end)
{
	const struct headers *h = data, *e;
	const struct payload *p = data + SEGMENT;

	if (data + SEGMENT + sizeof(p->stream) > end)
		return 0;
	e = stream_of(p);
	if (!e || !is_right(h, e) || h->l4[1] != e->l4[1] || h->l4[2] != e->l4[2] ||
	    h->l4[3] != e->l4[3] || h->l4[4] != e->l4[4] || h->l4[5] != e->l4[5] ||
	    h->l4[7] != e->l4[7] || !is_sum(h, e, 6))
		return 0;
	if (!order.stamped)
		return 1;
	if (data + SEGMENT + PAYLOAD > end)
		return 0;
	time(p);
	return 1;
}

/* Whether all buffers of a frame are there: it has as many bytes as its IPv4 header says. */
static inline int is_whole(struct xdp_md *ctx, const struct headers *h)
{
	return bpf_xdp_get_buff_len(ctx) == order.tag + ETHERNET + __builtin_bswap16(h->words[2]);
}

SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct counts *found;
	__u32 zero = 0;
	int right;

	found = bpf_map_lookup_elem(&counts, &zero);
	if (!found)
		return XDP_DROP;
	if (order.tag && (data + TAG > end || *(__u32 *)data != order.front)) {
		found->wrong++;
		return XDP_DROP;
	}
	if (order.tag)
		data += TAG;
	if (data + DATAGRAM > end)
		right = 0;
	else if (order.jumbo && !is_whole(ctx, data))
		right = 0;
	else if (((const __u8 *)data)[PROTOCOL_AT] == PROTOCOL_TCP)
		right = is_right_segment(data, end);
	else
		right = is_right_datagram(data, end);
	if (right)
		found->right++;
	else
		found->wrong++;
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
