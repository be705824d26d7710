// Where tiled.cu finds what it works on: frequencies, items and tiles. Wants its constants.
#pragma once

// The frequencies of a place in V or M, as offsets: 0 .. POINTS_H - 1 of its column. The first place's two real columns
// a and b have 0 .. HALF each, b after a; while they are worked on, b[f] stands for a[-f], and the two real numbers of
// f = 0, and of HALF, for one complex number.
struct Frequencies {
  long long first, step, last, turn;  // elements: to 0, from one to the next; from 0 to HALF + 1, and on from there

  __device__ Frequencies(int group, int place, long long plane) {
    step = GROUPS * plane;
    first = (place ? place - 1 : PLACES - 1) * POINTS_H * step + group * plane;
    last = (place ? HALF + 1 : 2 * HALF) * step;
    turn = place ? step : -step;
  }
};

// The items of this block: `size` of one group, fewer than ITEMS in the last; `first` of them before it.
struct Share {
  int group, first, size;
  __device__ Share(int columns, int width) {
    const int blocks = (columns * width + ITEMS - 1) / ITEMS;
    group = blockIdx.x / blocks;
    first = blockIdx.x % blocks * ITEMS;
    const int left = columns * width - first;
    size = left < ITEMS ? left : ITEMS;
  }
};

// Which tile a column is.
struct Place {
  int n, row, column;
  __device__ explicit Place(long long at) {
    const int tile = int(at % TILES);
    n = int(at / TILES);
    row = tile / TILES_W;
    column = tile % TILES_W;
  }
};
