/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Hands every frame to the AF_XDP socket of the queue it came in on.
 *
 * One object is loaded per port, because interface indexes repeat between network namespaces and
 * a map shared by several ports would mix up their sockets. The frame itself is never looked at:
 * without packet pointers the program loads without CAP_PERFMON.
 *
 * The few kernel definitions it needs are written out here (all of them stable ABI), so that
 * building it takes no header beside this file.
 */

typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]

enum { BPF_MAP_TYPE_XSKMAP = 17 };
enum { XDP_DROP = 1 };

struct xdp_md {
	__u32 data;
	__u32 data_end;
	__u32 data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};

static long (*const bpf_redirect_map)(void *map, __u64 key, __u64 flags) = (void *)51;

/* Queue number -> AF_XDP socket. The loader sets max_entries to the port's queue count. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
	__uint(max_entries, 1);
} xsks SEC(".maps");

/*
 * A queue without a socket drops: handing the frame to the kernel's stack instead would let
 * traffic go round the emulator uncounted. The driver counts the drop as xdp_drops.
 */
SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
