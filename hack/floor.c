/*
 * floor [-u] ROOTFS PROGRAM: what the kernel alone needs for one container.
 *
 * One clone into six new namespaces, an overlay mount, /proc, /sys and a small
 * /dev, pivot_root, execve, wait, and the directories removed again. With -u
 * the namespaces belong to a new user namespace in which the caller is the
 * only mapped id. An engine cannot be faster; how near it comes is what
 * hack/bench prints.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	_exit(125);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die(path);
	close(fd);
}

static void map_self(uid_t uid, gid_t gid)
{
	char line[64];
	write_file("/proc/self/setgroups", "deny");
	snprintf(line, sizeof line, "0 %u 1", uid);
	write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof line, "0 %u 1", gid);
	write_file("/proc/self/gid_map", line);
}

static void mount_at(const char *root, const char *dir, const char *type, unsigned long flags, const char *data)
{
	char path[512];
	snprintf(path, sizeof path, "%s%s", root, dir);
	if (mount(type, path, type, flags, data) < 0)
		die(path);
}

static void child(const char *root, const char *overlay, const char *program)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("make / private");
	mount_at(root, "", "overlay", 0, overlay);
	mount_at(root, "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at(root, "/dev", "tmpfs", MS_NOSUID, "mode=755,size=65536k");
	mount_at(root, "/sys", "sysfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		die("pivot_root");
	char *argv[] = {(char *)program, NULL}, *env[] = {"PATH=/bin", NULL};
	execve(program, argv, env);
	die(program);
}

int main(int argc, char **argv)
{
	int user = argc > 1 && strcmp(argv[1], "-u") == 0;
	argv += user, argc -= user;
	if (argc != 3) {
		fprintf(stderr, "usage: floor [-u] ROOTFS PROGRAM\n");
		return 2;
	}
	uid_t uid = getuid();
	gid_t gid = getgid();
	char dir[] = "/tmp/hull-floor-XXXXXX", upper[64], work[64], inner[72], merged[64], overlay[1024];
	if (!mkdtemp(dir))
		die("mkdtemp");
	snprintf(upper, sizeof upper, "%s/u", dir);
	snprintf(work, sizeof work, "%s/w", dir);
	snprintf(inner, sizeof inner, "%s/work", work);
	snprintf(merged, sizeof merged, "%s/m", dir);
	if (mkdir(upper, 0755) < 0 || mkdir(work, 0755) < 0 || mkdir(merged, 0755) < 0)
		die("mkdir");
	snprintf(overlay, sizeof overlay, "lowerdir=%s,upperdir=%s,workdir=%s%s", argv[1], upper, work, user ? ",userxattr" : "");

	struct clone_args args = {
		.flags = CLONE_VFORK | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP |
			 (user ? CLONE_NEWUSER : 0),
		.exit_signal = SIGCHLD,
	};
	pid_t pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0)
		die("clone3");
	if (pid == 0) {
		if (user)
			map_self(uid, gid);
		child(merged, overlay, argv[2]);
	}
	int status;
	if (waitpid(pid, &status, 0) < 0)
		die("waitpid");
	rmdir(merged), rmdir(inner), rmdir(work), rmdir(upper), rmdir(dir);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 125;
}
