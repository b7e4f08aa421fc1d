/* -- finite -- */
static int finite(float x)
{
    return x >= -FLT_MAX && x <= FLT_MAX;
}

/* -- accumulate -- */
/* y += x W, eight rows of W at a time. Numbers that are 0, as half of those behind a ReLU are, cost nothing. */
static void accumulate(const float *x, int n, const float *weight, float *restrict y, int m)
{
    int i = 0, j, k;
    while (i < n) {
        const float *w[8];
        float f[8];
        for (k = 0; k < 8; k++) {
            w[k] = weight;
            f[k] = 0.0f;
        }
        for (k = 0; k < 8 && i < n; i++) {
            w[k] = weight + i * m;
            f[k] = x[i];
            k += x[i] != 0.0f;
        }
        for (j = 0; j < m; j++)
            y[j] += ((f[0] * w[0][j] + f[1] * w[1][j]) + (f[2] * w[2][j] + f[3] * w[3][j])) +
                    ((f[4] * w[4][j] + f[5] * w[5][j]) + (f[6] * w[6][j] + f[7] * w[7][j]));
    }
}

/* -- affine -- */
/* y = x W + b */
static void affine(const float *x, int n, const float *weight, const float *bias, float *restrict y, int m)
{
    int j;
    for (j = 0; j < m; j++)
        y[j] = bias[j];
    accumulate(x, n, weight, y, m);
}

/* -- convolution -- */
/* An image [height, width, n] becomes [height', width', m]: a row of the kernel is a run of numbers of the image. */
static void convolution(const float *x, int height, int width, int n, const float *weight, const float *bias,
                        int kernel, int stride, float *restrict y, int m)
{
    int top, left, row, j;
    for (top = 0; top + kernel <= height; top += stride)
        for (left = 0; left + kernel <= width; left += stride) {
            for (j = 0; j < m; j++)
                y[j] = bias[j];
            for (row = 0; row < kernel; row++)
                accumulate(x + ((top + row) * width + left) * n, kernel * n, weight + row * kernel * n * m, y, m);
            y += m;
        }
}

/* -- scale -- */
static void scale(const float *x, int n, const float *centre, const float *factor, const float *shift, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = (x[i] - centre[i]) * factor[i] + shift[i];
}

/* -- clip -- */
/* NaN stays NaN, here and below. */
static void clip(const float *x, int n, const float *low, const float *high, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] < low[i] ? low[i] : x[i] > high[i] ? high[i] : x[i];
}

/* -- relu -- */
static void relu(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
}

/* -- exponential -- */
/* e^x for x from -87 to 88, beyond which it stays as it is there; relative error 2e-7. */
static float exponential(float x)
{
    union {
        uint32_t bits;
        float value;
    } power;
    float r, p;
    int n;
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    n = (int)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    p = 1.0f + r / 7.0f;
    p = 1.0f + r * p / 6.0f;
    p = 1.0f + r * p / 5.0f;
    p = 1.0f + r * p / 4.0f;
    p = 1.0f + r * p / 3.0f;
    p = 1.0f + r * p / 2.0f;
    p = 1.0f + r * p;
    power.bits = (uint32_t)(n + 127) << 23;
    return p * power.value;
}

/* -- hyperbolic_tangent -- */
/* A polynomial near 0 and (1 - e) / (1 + e) with e = e^(-2 |x|) beyond; error below 2e-7, and never more than 1. */
static void hyperbolic_tangent(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++) {
        float value = x[i], size = value < 0.0f ? -value : value, square = value * value;
        float small, large;
        float e = exponential(-2.0f * (size < 20.0f ? size : 20.0f));
        small = 0.0206584861f - 0.00572381455f * square;
        small = -0.333332865f + square * (0.133315415f + square * (-0.0537466578f + square * small));
        large = (1.0f - e) / (1.0f + e);
        large = value < 0.0f ? -large : large;
        y[i] = value != value ? value : size < 0.625f ? value + value * square * small : large;
    }
}

/* -- elu -- */
static void elu(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] < 0.0f ? exponential(x[i]) - 1.0f : x[i];
}

/* -- silu -- */
static void silu(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] / (1.0f + exponential(-x[i]));
}

/* -- inverse_root -- */
/* 1 / sqrt(x) for x > 0: a first guess from the exponent, four times improved by Newton's rule. */
static float inverse_root(float x)
{
    union {
        uint32_t bits;
        float value;
    } guess;
    int k;
    guess.value = x;
    guess.bits = 0x5f3759dfu - (guess.bits >> 1);
    for (k = 0; k < 4; k++)
        guess.value *= 1.5f - 0.5f * x * guess.value * guess.value;
    return guess.value;
}

/* -- standardise -- */
/* Less their mean, divided by the root of their variance and a little. */
static void standardise(const float *x, int n, float *y)
{
    float mean = 0.0f, variance = 0.0f, factor;
    int i;
    for (i = 0; i < n; i++)
        mean += x[i] / (float)n;
    for (i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean) / (float)n;
    factor = inverse_root(variance + 1e-5f);
    for (i = 0; i < n; i++)
        y[i] = (x[i] - mean) * factor;
}

/* -- concat -- */
static void concat(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i];
}

/* -- add -- */
/* x + sign y, where one of them may be a single number. */
static void add(const float *x, int n, const float *y, int m, float sign, float *z)
{
    int i, most = n > m ? n : m;
    float first_x = x[0], first_y = y[0];
    for (i = 0; i < most; i++)
        z[i] = (n == 1 ? first_x : x[i]) + sign * (m == 1 ? first_y : y[i]);
}

/* -- mean -- */
static void mean(const float *x, int n, float *y)
{
    float sum = 0.0f;
    int i;
    for (i = 0; i < n; i++)
        sum += x[i];
    y[0] = sum / (float)n;
}

/* -- minimum -- */
static void minimum(const float *x, int n, const float *y, float *z)
{
    int i;
    for (i = 0; i < n; i++)
        z[i] = x[i] < y[i] ? x[i] : y[i];
}

/* -- argmax -- */
/* The first of the largest numbers. */
static int argmax(const float *x, int n)
{
    int i, best = 0;
    for (i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return best;
}

/* -- choose -- */
static void choose(const float *scores, int n, const float *options, int width, float *y)
{
    int i, first = argmax(scores, n) * width;
    for (i = 0; i < width; i++)
        y[i] = options[first + i];
}

/* -- log_term -- */
/* The logarithm of component k's share in a mixture's density at the mean of component m, but for constants. */
static float log_term(const float *logits, const float *means, const float *log_stds, int d, int m, int k)
{
    float log = logits[k];
    int i;
    for (i = 0; i < d; i++) {
        float z = (means[m * d + i] - means[k * d + i]) * exponential(-log_stds[k * d + i]);
        log -= 0.5f * z * z + log_stds[k * d + i];
    }
    return log;
}

/* -- mixture_density -- */
/* The density of a Gaussian mixture at each of its means, relative to the largest term. */
static void mixture_density(const float *logits, int n, const float *means, const float *log_stds, int d, float *y)
{
    float largest = -FLT_MAX;
    int m, k;
    for (m = 0; m < n; m++)
        for (k = 0; k < n; k++) {
            float log = log_term(logits, means, log_stds, d, m, k);
            largest = log > largest ? log : largest;
        }
    for (m = 0; m < n; m++) {
        y[m] = 0.0f;
        for (k = 0; k < n; k++)
            y[m] += exponential(log_term(logits, means, log_stds, d, m, k) - largest);
    }
}
