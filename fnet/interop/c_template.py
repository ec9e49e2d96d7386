"""The parts of a C header that `fnet.interop.c_source` puts together; `<NAME>` stands for what differs.

`<p>` is the prefix of functions and tables, `<P>` that of macros. Comments and names of strangers are put in last.
"""

HEADER = """\
<ABOUT>#ifndef <P>_H
#define <P>_H

#include <math.h>
<INCLUDE>
#define <P>_FEATURES <FEATURES>
#define <P>_OUTPUTS <OUTPUTS>
<MACROS><NAMES>
<TABLES>
<WIDE><LINEAR><ACTIVATION>/* Takes the features of training, in their units. Writes <WRITES> to outputs, and returns
   <RETURNS>; or -1 if a feature is not finite, or so large that the network overflows. */
static inline int <p>_predict(const double features[<P>_FEATURES], <TYPE> outputs[<P>_OUTPUTS])
{
<BODY>}
<COLUMNS>
#endif
"""

WIDE = """\
/* On x86 with the GNU C library, functions are compiled for several widths of vectors, and the processor decides;
   -D<P>_WIDE= compiles them once. ThreadSanitizer cannot start with such functions. */
#if !defined(<P>_WIDE) && defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__)
#ifdef __has_attribute
#if __has_attribute(target_clones)
#define <P>_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#endif
#endif
#ifndef <P>_WIDE
#define <P>_WIDE
#endif

"""

LINEAR = """\
/* y = x w + b with <M> outputs, eight inputs at a time. */
<P>_WIDE static inline void <p>_linear_<M>(int n, const float w[][<M>], const float *b, const float *x, float *y)
{
    float sum[<M>];
    int i, j;
    for (j = 0; j < <M>; j++)
        sum[j] = b[j];
    for (i = 0; i + 8 <= n; i += 8)
        for (j = 0; j < <M>; j++)
            sum[j] += x[i] * w[i][j] + x[i + 1] * w[i + 1][j] + x[i + 2] * w[i + 2][j] + x[i + 3] * w[i + 3][j]
                + x[i + 4] * w[i + 4][j] + x[i + 5] * w[i + 5][j] + x[i + 6] * w[i + 6][j] + x[i + 7] * w[i + 7][j];
    for (; i < n; i++)
        for (j = 0; j < <M>; j++)
            sum[j] += x[i] * w[i][j];
    for (j = 0; j < <M>; j++)
        y[j] = sum[j];
}

"""

LINEAR_INT8 = """\
/* y = scale * (w q) + b with <N> inputs, and q = floor(clip(x / step + zero + 1/2, 0, 255)); sums fit in 32 bits. */
<P>_WIDE static inline void <p>_linear_<N>(int m, const int8_t w[][<N>], const float *scale, const float *b,
                                       float step, int zero, const float *x, float *y)
{
    const float half = (float)zero + 0.5f;
    int16_t q[<N>]; /* wider than 8 bits, since many processors multiply these faster */
    int i, j;
    for (i = 0; i < <N>; i++) {
        float r = x[i] / step + half;
        r = r > 0 ? r : 0;
        r = r < 255 ? r : 255;
        q[i] = (int16_t)r;
    }
    for (j = 0; j < m; j++) {
        int32_t sum = 0;
        for (i = 0; i < <N>; i++)
            sum += w[j][i] * q[i];
        y[j] = scale[j] * (float)sum + b[j];
    }
}

"""

ACTIVATION = """\
static inline void <p>_<FUNCTION>(int n, float *x)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = <VALUE>;
}

"""

STANDARDIZE = """\
    for (i = 0; i < <P>_FEATURES; i++) {
        x[i] = (float)((features[i] - <p>_mean[i]) / <p>_std[i]);
        refused |= !isfinite(x[i]);
    }
    if (refused)
        return -1;
"""

SOFTMAX = """\
    top = z[0];
    for (i = 1; i < <P>_OUTPUTS; i++)
        top = z[i] > top ? z[i] : top;
    sum = 0;
    for (i = 0; i < <P>_OUTPUTS; i++) {
        z[i] = expf(<SHIFTED>);
        sum += z[i];
    }
    if (!isfinite(sum))
        return -1;
    for (i = 0; i < <P>_OUTPUTS; i++)
        outputs[i] <ASSIGN> z[i] / sum;
"""

ARGMAX = """\
    for (i = 1; i < <P>_OUTPUTS; i++)
        if (outputs[i] > outputs[best])
            best = i;
    return best;
"""

SORT = """\
    for (i = 1; i < <P>_OUTPUTS; i++) /* quantiles do not cross */
        for (k = i; k > 0 && y[k - 1] > y[k]; k--) {
            const float larger = y[k - 1];
            y[k - 1] = y[k];
            y[k] = larger;
        }
"""

UNSCALE = """\
    for (i = 0; i < <P>_OUTPUTS; i++) {
        outputs[i] = <NUMBER>;
        if (!isfinite(outputs[i]))
            return -1;
    }
    return 0;
"""

CATEGORY = """\
static const char *const *const <p>_texts[<P>_CATEGORIES] = {<POINTERS>};
static const int <p>_counts[<P>_CATEGORIES] = {<COUNTS>};

/* The position of a text in the column categories[column]; -1 if it is missing (0), -2 if training did not have it. */
static inline int <p>_category(int column, const char *text)
{
    int i, k;
    if (!text)
        return -1;
    for (i = 0; i < <p>_counts[column]; i++) {
        const char *known = <p>_texts[column][i];
        for (k = 0; known[k] && known[k] == text[k]; k++)
            ;
        if (known[k] == text[k])
            return i;
    }
    return -2;
}

/* Sets the feature of a category: each level has one, the rare texts after them share one, and missing ones may. */
static inline void <p>_one_hot(double *features, int category, int levels, int texts, int missing)
{
    if (category == -1 && missing)
        features[levels + (texts > levels)] = 1;
    else if (category >= 0 && category < texts)
        features[category < levels ? category : levels] = 1;
}
"""

ENCODE = """\

/* The features of a row of a table. A number is NAN where it is missing. A category is a position in <p>_texts, -1
   where it is missing, and -2 for a text that training did not have.
<ARGUMENTS>*/
static inline void <p>_encode(const double *numbers, const int *categories, double features[<P>_FEATURES])
{
    int i;
    for (i = 0; i < <P>_FEATURES; i++)
        features[i] = 0;
<STATEMENTS>}

/* The prediction for a row of a table: <p>_encode and <p>_predict. */
static inline int <p>_predict_columns(const double *numbers, const int *categories, <TYPE> outputs[<P>_OUTPUTS])
{
    double features[<P>_FEATURES];
    <p>_encode(numbers, categories, features);
    return <p>_predict(features, outputs);
}
"""
