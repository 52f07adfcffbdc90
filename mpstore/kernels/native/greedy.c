/* Greedy paths, so many columns at a time that all of their state stays in the first-level cache, one a lane:
   columns do not touch each other, so a step needs no sum or maximum across a vector. */
#include "greedy.h"

#include <math.h>

#define L GREEDY_LANES
#define LANEWISE for (i64 l = 0; l < L; l++)

typedef double Lanes[L];

void towards(const double *error, const double *similarity, const i64 *tensor, i64 experts, i64 count, double *out) {
    for (i64 first = 0; first < count; first += L) {
        i64 wide = least(L, count - first), square = experts * experts;
        bool alone = true; /* of one tensor, as nearly all are: its cosines are the same in every lane */
        for (i64 l = 1; l < wide; l++) alone &= tensor[first + l] == tensor[first];
        for (i64 i = 0; i < experts; i++) {
            Lanes sum = {0};
            for (i64 j = 0; j < experts; j++) {
                const double *sizes = error + j * count + first, *cosines = similarity + j * experts + i;
                if (alone && wide == L) {
                    double cosine = cosines[tensor[first] * square];
                    LANEWISE sum[l] += cosine * sizes[l];
                } else
                    for (i64 l = 0; l < wide; l++) sum[l] += cosines[tensor[first + l] * square] * sizes[l];
            }
            memcpy(out + i * count + first, sum, (size_t)wide * sizeof *sum);
        }
    }
}

/* What is known of the columns in the lanes while they are walked. */
typedef struct {
    Lanes *error, *drop, *price, *cost, *bytes, square, best, size;
    i64 pick[L], column[L], place[L];
} State;

static void load(const Choices *c, const double *drop, const double *square, i64 first, State *s) {
    LANEWISE {
        i64 at = s->column[l] = least(first + l, c->count - 1); /* lanes past the end walk the last, for nobody */
        s->square[l] = square[at];
        s->place[l] = c->tensor[at] * c->experts * c->experts;
    }
    for (i64 i = 0; i < c->experts; i++) {
        const double *error = c->error + i * c->count, *cost = c->cost + i * c->count;
        const double *drops = drop + i * c->count;
        const u8 *member = c->member + i * c->count;
        LANEWISE {
            i64 at = s->column[l];
            s->error[i][l] = error[at];
            s->drop[i][l] = drops[at];
            s->cost[i][l] = cost[at];
            s->price[i][l] = member[at] ? (cost[at] > 1.0 ? cost[at] : 1.0) : 0.0; /* 0: not to be picked */
        }
        if (c->number) LANEWISE s->bytes[i][l] = c->bytes[i * c->count + s->column[l]];
    }
}

/* The densest of what is left, the first of several. */
static void choose_densest(const Choices *c, State *s) {
    LANEWISE s->best[l] = -INFINITY, s->pick[l] = 0;
    for (i64 i = 0; i < c->experts; i++) {
        const double *error = s->error[i], *drop = s->drop[i], *price = s->price[i];
        LANEWISE {
            double density = drop[l] * error[l] / price[l];
            bool more = (density > s->best[l]) & (price[l] > 0.0);
            s->best[l] = more ? density : s->best[l];
            s->pick[l] = more ? i : s->pick[l];
        }
    }
}

/* What the picked one paid for costs the others nothing. */
static void pay(const Choices *c, State *s) {
    LANEWISE {
        i64 own = c->number[s->pick[l] * c->count + s->column[l]];
        if (own < 0 || !(s->best[l] > -INFINITY)) continue;
        for (i64 i = 0; i < c->experts; i++) {
            if (c->number[i * c->count + s->column[l]] != own) continue;
            s->cost[i][l] -= s->bytes[i][l];
            s->bytes[i][l] = 0.0;
            if (s->price[i][l] > 0.0) s->price[i][l] = s->cost[i][l] > 1.0 ? s->cost[i][l] : 1.0;
        }
    }
}

static void take_out(const Choices *c, State *s) {
    i64 row[L];
    LANEWISE {
        i64 pick = s->pick[l];
        double size = s->best[l] > -INFINITY ? s->error[pick][l] : 0.0;
        double left = s->square[l] - s->drop[pick][l] * size;
        s->square[l] = left > 0.0 ? left : 0.0;
        s->size[l] = 2.0 * size;
        s->price[pick][l] = 0.0;
        row[l] = s->place[l] + pick * c->experts;
    }
    for (i64 i = 0; i < c->experts; i++) {
        const double *cosines = c->similarity + i;
        double *drop = s->drop[i];
        LANEWISE drop[l] -= cosines[row[l]] * s->size[l];
    }
}

void walk(const Choices *c, const double *drop, const double *square, i32 *path, double *paid, double *norms,
          double *scratch) {
    Lanes *room = (Lanes *)scratch;
    State s = {.error = room, .drop = room + c->experts, .price = room + 2 * c->experts,
               .cost = room + 3 * c->experts, .bytes = room + 4 * c->experts};
    for (i64 first = 0; first < c->count; first += L) {
        i64 wide = least(L, c->count - first);
        load(c, drop, square, first, &s);
        for (i64 l = 0; l < wide; l++) norms[first + l] = sqrt(s.square[l]);
        for (i64 step = 0; step < c->steps; step++) {
            i64 at = step * c->count + first;
            choose_densest(c, &s);
            for (i64 l = 0; l < wide; l++) {
                bool active = s.best[l] > -INFINITY;
                path[at + l] = active ? (i32)s.pick[l] : -1;
                paid[at + l] = active ? s.price[s.pick[l]][l] : 1.0;
            }
            take_out(c, &s);
            if (c->number) pay(c, &s);
            for (i64 l = 0; l < wide; l++) norms[at + c->count + l] = sqrt(s.square[l]);
        }
    }
}

/* Of one column: join its last segment with the one before while that has the lower density. */
static i64 join(double *worth, double *price, i64 top) {
    while (top > 0 && worth[top] * price[top - 1] > worth[top - 1] * price[top]) {
        worth[top - 1] += worth[top];
        price[top - 1] += price[top];
        top--;
    }
    return top;
}

i64 hull(const i32 *path, const double *gain, const double *cost, i64 steps, i64 count, i32 *segment, double *density,
         i64 *segments, double *scratch, i64 *starts) {
    double *worth = scratch, *price = scratch + steps;
    i64 made = 0;
    for (i64 column = 0; column < count; column++) {
        double *own = density + made, before = 0.0;
        bool rising = false;
        i64 length = 0;
        for (; length < steps && path[length * count + column] >= 0; length++) {
            double dense = gain[length * count + column] / cost[length * count + column];
            rising |= length > 0 && dense > before;
            own[length] = before = dense;
        }
        i64 top = length - 1;
        if (rising) {
            top = -1;
            for (i64 step = 0; step < length; step++) {
                worth[++top] = gain[step * count + column];
                price[top] = cost[step * count + column];
                starts[top] = step;
                top = join(worth, price, top);
            }
            for (i64 k = 0; k <= top; k++) own[k] = worth[k] / price[k];
        }
        for (i64 step = 0, k = 0; step < steps; step++) {
            if (rising) {
                while (k < top && starts[k + 1] <= step) k++;
                segment[step * count + column] = (i32)k;
            } else
                segment[step * count + column] = (i32)step;
        }
        segments[column] = top + 1;
        made += top + 1;
    }
    return made;
}

void enter_units(const i32 *path, const i32 *segment, i64 steps, i64 count, const i64 *starts, const i64 *rank,
                 i64 ranks, const i64 *blocks, i64 *unit, i64 experts, i64 width) {
    for (i64 step = 0; step < steps; step++)
        for (i64 column = 0; column < count; column++) {
            i64 expert = path[step * count + column], block = blocks[column];
            i64 place = starts[column] + segment[step * count + column];
            if (expert < 0 || expert >= experts || place < 0 || place >= ranks || block < 0 || block >= width) continue;
            unit[expert * width + block] = rank[place];
        }
}
