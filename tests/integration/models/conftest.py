from tests.support.digits_releases import student_folder, teacher_folder

__all__ = ["student_folder", "teacher_folder"]
