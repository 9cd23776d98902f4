/* Tries what no program of a run may do, and says of each what came of it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int unshare(int flags);

static void say(const char *name, int succeeded) { printf("%s: %s\n", name, succeeded ? "SUCCEEDED" : strerror(errno)); }

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    const char *outside = argv[1], *local = argv[2], *secret = argv[5];
    int port = atoi(argv[3]), pid = atoi(argv[4]);
    char memory[64];
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    strncpy(un.sun_path, local, sizeof un.sun_path - 1);
    snprintf(memory, sizeof memory, "/proc/%d/mem", pid);

    say("read", open(secret, O_RDONLY) >= 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("tcp", fd >= 0 && connect(fd, (struct sockaddr *)&in, sizeof in) == 0);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    say("udp", fd >= 0 && sendto(fd, "x", 1, 0, (struct sockaddr *)&in, sizeof in) == 1);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    say("local", fd >= 0 && connect(fd, (struct sockaddr *)&un, sizeof un) == 0);
    say("ptrace", ptrace(PTRACE_SEIZE, pid, 0, 0) == 0);
    say("memory", open(memory, O_RDWR) >= 0 || open(memory, O_RDONLY) >= 0);
    say("signal", kill(pid, SIGURG) == 0);
    say("write", open(outside, O_WRONLY | O_CREAT, 0600) >= 0);
    say("namespace", unshare(0x10000000) == 0);
    say("chmod", chmod(secret, 0666) == 0);
    return 0;
}
