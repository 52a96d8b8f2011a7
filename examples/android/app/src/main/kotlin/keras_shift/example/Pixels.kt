package keras_shift.example

import android.graphics.Bitmap
import android.graphics.Matrix
import android.graphics.Rect

/**
 * The middle square of a picture, turned upright and smoothly made smaller, as rows of RGB
 * values from 0 to 255.
 */
fun pixelsOf(picture: Bitmap, visible: Rect, rotationDegrees: Int, size: Int): FloatArray {
    val side = minOf(visible.width(), visible.height())
    val upright = Matrix().apply { postRotate(rotationDegrees.toFloat()) }
    val left = visible.left + (visible.width() - side) / 2
    val top = visible.top + (visible.height() - side) / 2
    var square = Bitmap.createBitmap(picture, left, top, side, side, upright, false)
    // Bilinear interpolation looks at two pixels in a row. So that it leaves none out, the
    // picture is made smaller by no more than half at once.
    while (square.width > 2 * size) {
        square = Bitmap.createScaledBitmap(square, square.width / 2, square.height / 2, true)
    }
    square = Bitmap.createScaledBitmap(square, size, size, true)
    val colours = IntArray(size * size)
    square.getPixels(colours, 0, size, 0, 0, size, size)
    return FloatArray(3 * colours.size) { index ->
        val shift = 16 - 8 * (index % 3)
        (colours[index / 3] shr shift and 0xff).toFloat()
    }
}
