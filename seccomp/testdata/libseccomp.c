/* Makes a filter of the rules on standard input with libseccomp, as runtimes that link it do,
 * and writes it to standard output:
 *
 *   default ACTION
 *   arch NAME
 *   rule ACTION CALL N [INDEX OP VALUE VALUE]...
 */
#include <errno.h>
#include <inttypes.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-err));
	exit(1);
}

int main(void)
{
	scmp_filter_ctx ctx = NULL;
	char word[16], name[64];
	uint32_t action, def = 0;
	while (scanf("%15s", word) == 1) {
		int err;
		if (!strcmp(word, "default")) {
			if (scanf("%" SCNu32, &def) != 1 || !(ctx = seccomp_init(def)))
				fail("default", -EINVAL);
		} else if (!strcmp(word, "arch")) {
			if (scanf("%63s", name) != 1)
				fail("arch", -EINVAL);
			err = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			if (err && err != -EEXIST)
				fail(name, err);
		} else {
			struct scmp_arg_cmp args[6];
			unsigned n;
			int nr;
			if (scanf("%" SCNu32 " %63s %u", &action, name, &n) != 3 || n > 6)
				fail("rule", -EINVAL);
			for (unsigned i = 0; i < n; i++) {
				unsigned index, op;
				uint64_t a, b;
				if (scanf("%u %u %" SCNu64 " %" SCNu64, &index, &op, &a, &b) != 4)
					fail("argument", -EINVAL);
				args[i] = (struct scmp_arg_cmp){ index, op, a, b };
			}
			nr = seccomp_syscall_resolve_name(name);
			if (nr == __NR_SCMP_ERROR) {
				fprintf(stderr, "unknown %s\n", name);
				continue;
			}
			if (action == def)
				continue;
			if ((err = seccomp_rule_add_array(ctx, action, nr, n, args)))
				fail(name, err);
		}
	}
	if (!ctx)
		fail("default", -EINVAL);
	int err = seccomp_export_bpf(ctx, 1);
	if (err)
		fail("export", err);
	return 0;
}
