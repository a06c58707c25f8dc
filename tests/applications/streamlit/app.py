"""An application that counts in its session, takes a file and hands one out."""

import os

import streamlit as st

instance = os.environ["INSTANCE"]
st.set_page_config(page_title=instance)
count = st.session_state.setdefault("count", 0)
if st.button("count"):
    count = st.session_state["count"] = count + 1
st.text(f"{instance} has counted to {count}")
file = st.file_uploader("upload")
if file is not None:
    st.text(f"{instance} has read {len(file.getvalue())} bytes")
st.download_button("download", f"written by {instance} at {count}", "work.txt")
