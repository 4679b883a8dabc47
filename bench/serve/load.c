/* A load generator that checks every answer. One thread, epoll, HTTP/1.1 keep-alive.
 *
 *   load PORT RATE SECONDS CONNECTIONS FILE
 *
 * FILE holds pairs, which are asked in turn: a line with two lengths in bytes and 1 or 0, the whole request, then the
 * body of its right answer (1), or a piece of it (0).
 * Open loop: requests leave at fixed times, whatever the server does, so that a slow server cannot slow its clients
 * down and hide its latency ("coordinated omission"). Latency counts from the time a request was due. One that finds
 * no free connection is `unsent`: the generator has too few of them, and its figures are not to be trusted.
 * Closed loop, with `--closed` as RATE: every connection asks again as soon as it is answered.
 * Ends with one line of JSON; times in seconds, `seconds` until the last answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST = 65536, BATCH = 256 };

struct pair { char *request, *expected; size_t request_length, expected_length; int whole; };
struct connection { int fd, busy, pair; size_t have; double due; char *answer; };
struct latencies { double *at; size_t count, room; };

static struct pair *pairs;
static int pair_count, next_pair, epoll, *idle, idle_first, idle_count; /* idle: a ring, the longest idle first */
static struct sockaddr_in address;
static struct latencies accepted, refused;
static long sent, wrong, broken, unsent, silent_refusals;

static void die(const char *what) { perror(what); exit(2); }

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void keep(struct latencies *all, double latency) {
    if (all->count == all->room) {
        all->room = all->room ? all->room * 2 : 65536;
        if (!(all->at = realloc(all->at, all->room * sizeof *all->at))) die("realloc");
    }
    all->at[all->count++] = latency;
}

static void open_connection(struct connection *c) {
    int one = 1;
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
    c->busy = 0;
    c->have = 0;
}

static void set_idle(int number, int size) { idle[(idle_first + idle_count++) % size] = number; }

static int take_idle(int size) {
    int number = idle[idle_first];
    idle_first = (idle_first + 1) % size;
    idle_count--;
    return number;
}

static void reopen(struct connection *c) { close(c->fd); open_connection(c); }

static void post(struct connection *c, double due) {
    c->pair = next_pair;
    next_pair = (next_pair + 1) % pair_count;
    c->due = due;
    c->have = 0;
    c->busy = 1;
    sent++;
    struct pair *p = &pairs[c->pair];
    for (int attempt = 0; attempt < 2; attempt++) { /* a server may have closed an idle connection: ask again once */
        if (send(c->fd, p->request, p->request_length, MSG_NOSIGNAL) == (ssize_t)p->request_length) return;
        reopen(c);
        c->busy = 1;
    }
    broken++;
}

/* Take the chunks' sizes out of a chunked body: what is left of it; 0 while more is to come, -1 where it is none. */
static long unchunk(char *body, char *end) {
    char *from = body, *to = body;
    for (int writing = 0; writing < 2; writing++) { /* nothing is moved before all of it is there */
        for (from = to = body;;) {
            char *rest, *line = memmem(from, end - from, "\r\n", 2);
            if (!line) return 0;
            long size = strtol(from, &rest, 16);
            if (rest == from || size < 0 || size > LARGEST) return -1;
            if (end - (line + 2) < size + 2) return 0;
            if (writing) memmove(to, line + 2, size);
            to += size;
            from = line + 2 + size + 2;
            if (!size) break;
        }
    }
    return from == end ? to - body : -1;
}

/* Whether the answer is complete, with its body and the body's length; -1 where it is none. */
static int complete(struct connection *c, char **body, size_t *length) {
    c->answer[c->have] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (!end) return c->have >= LARGEST ? -1 : 0;
    char *announced = strcasestr(c->answer, "\r\ncontent-length:");
    *body = end + 4;
    if (announced && announced < end) {
        *length = strtol(announced + 17, NULL, 10);
        if (*length > LARGEST) return -1;
        size_t there = c->answer + c->have - *body;
        return there > *length ? -1 : there == *length;
    }
    announced = strcasestr(c->answer, "\r\ntransfer-encoding: chunked");
    if (!announced || announced > end) return -1;
    long left = unchunk(*body, c->answer + c->have);
    *length = left > 0 ? left : 0;
    return left < 0 ? -1 : left > 0;
}

/* Whether a body is the one that was wanted. */
static int right(struct pair *p, const char *body, size_t length) {
    if (p->whole) return length == p->expected_length && !memcmp(body, p->expected, length);
    return memmem(body, length, p->expected, p->expected_length) != NULL;
}

/* Whether the connection is free again. */
static int answered(struct connection *c) {
    for (;;) {
        ssize_t got = recv(c->fd, c->answer + c->have, LARGEST - c->have, 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return 0;
        if (got <= 0) {
            int lost = c->busy;
            broken += lost;
            reopen(c);
            return lost;
        }
        c->have += got;
        if (!c->busy) continue;
        char *body = NULL;
        size_t length = 0;
        int done = complete(c, &body, &length);
        if (!done) continue;
        double latency = now() - c->due;
        struct pair *p = &pairs[c->pair];
        if (done < 0) {
            wrong++;
        } else if (!strncmp(c->answer + 9, "200", 3)) {
            if (right(p, body, length)) keep(&accepted, latency);
            else wrong++;
        } else if (!strncmp(c->answer + 9, "429", 3)) {
            char *retry = strcasestr(c->answer, "\r\nretry-after:");
            if (!retry || retry > body) silent_refusals++;
            keep(&refused, latency);
        } else {
            wrong++;
        }
        if (body) *body = 0;
        int closes = done < 0 || strcasestr(c->answer, "\r\nconnection: close") != NULL;
        c->busy = 0;
        c->have = 0;
        if (closes) reopen(c);
        return 1;
    }
}

static void read_pairs(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) die(name);
    size_t request, expected;
    int whole;
    while (fscanf(file, "%zu %zu %d", &request, &expected, &whole) == 3 && fgetc(file) == '\n') {
        pairs = realloc(pairs, (pair_count + 1) * sizeof *pairs);
        struct pair *p = pairs ? &pairs[pair_count++] : NULL;
        if (!p || !(p->request = malloc(request)) || !(p->expected = malloc(expected))) die("malloc");
        p->request_length = request;
        p->expected_length = expected;
        p->whole = whole;
        if (fread(p->request, 1, request, file) != request || fread(p->expected, 1, expected, file) != expected)
            die("short file");
    }
    fclose(file);
    if (!pair_count) { fprintf(stderr, "%s has no requests\n", name); exit(2); }
}

static int by_size(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double percentile(struct latencies *all, double part) {
    if (!all->count) return 0;
    size_t rank = part * all->count;
    return all->at[rank < all->count ? rank : all->count - 1];
}

int main(int count, char **argument) {
    if (count != 6) { fprintf(stderr, "usage: load PORT RATE|--closed SECONDS CONNECTIONS FILE\n"); return 2; }
    int closed = !strcmp(argument[2], "--closed");
    double rate = closed ? 0 : atof(argument[2]), seconds = atof(argument[3]);
    int size = atoi(argument[4]);
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argument[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    read_pairs(argument[5]);
    if ((epoll = epoll_create1(0)) < 0) die("epoll_create1");
    struct connection *all = calloc(size, sizeof *all);
    idle = calloc(size, sizeof *idle);
    if (!all || !idle) die("calloc");
    double start = now(), end = start + seconds, due = start;
    for (int i = 0; i < size; i++) {
        if (!(all[i].answer = malloc(LARGEST + 1))) die("malloc");
        open_connection(&all[i]);
        set_idle(i, size);
    }
    start = due = now();
    end = start + seconds;
    int ending = 0;
    struct epoll_event events[BATCH];
    for (;;) {
        double time = now();
        if (!ending && time >= end) ending = 1;
        if (!ending && closed)
            while (idle_count) post(&all[take_idle(size)], now());
        for (; !ending && !closed && due <= time && due < end; due += 1 / rate) {
            if (idle_count) post(&all[take_idle(size)], due);
            else unsent++;
        }
        if (ending && (idle_count == size || time > end + 30)) break;
        int wait = ending || closed ? 100 : 1;
        struct timespec until = {.tv_nsec = 200000};
        int got = closed || ending ? epoll_wait(epoll, events, BATCH, wait) : epoll_pwait2(epoll, events, BATCH, &until, NULL);
        if (got < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < got; i++) {
            struct connection *c = events[i].data.ptr;
            if (answered(c)) set_idle(c - all, size);
        }
    }
    seconds = now() - start;
    long hanging = size - idle_count;
    qsort(accepted.at, accepted.count, sizeof *accepted.at, by_size);
    qsort(refused.at, refused.count, sizeof *refused.at, by_size);
    printf("{\"sent\": %ld, \"accepted\": %zu, \"refused\": %zu, \"wrong\": %ld, \"broken\": %ld, \"unsent\": %ld, "
           "\"hanging\": %ld, \"without_retry_after\": %ld, \"seconds\": %.6f, \"p50\": %.6f, \"p99\": %.6f, "
           "\"refused_p50\": %.6f, \"refused_p99\": %.6f}\n",
           sent, accepted.count, refused.count, wrong, broken, unsent, hanging, silent_refusals, seconds,
           percentile(&accepted, .5), percentile(&accepted, .99), percentile(&refused, .5), percentile(&refused, .99));
    return 0;
}
